"""Scenes that ``make_tiny_janus.py`` trains on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import JanusForConditionalGeneration, JanusProcessor

from fedumm.backends.januspro.model import encode_for_generation
from fedumm.data.shapes.compose import CATEGORIES, SHAPES, Composed, compose
from fedumm.data.shapes.scene import COLORS, draw
from tiny_janus_model import PATCH, SIDE


class Bank:
    """Scenes of one part, drawn once: pixels, what is in each patch, and later features and codes."""

    def __init__(
        self, processor: JanusProcessor, size: int, seed: int, part: str, shapes: Sequence[str] = SHAPES
    ) -> None:
        rng = np.random.default_rng([seed, size])
        self.scenes = [compose(rng, CATEGORIES[i % len(CATEGORIES)], part, shapes) for i in range(size)]
        parts = [
            processor.image_processor(images=[draw(c.scene) for c in some], return_tensors="pt").pixel_values
            for some in (self.scenes[i : i + 500] for i in range(0, size, 500))
        ]
        self.pixels = torch.cat([part.half() for part in parts])
        self.features = self.codes = torch.empty(0)

    def patches(self) -> torch.Tensor:
        """What is in each patch, ``(scenes, 2, tokens)``."""
        return torch.stack([_patch_labels(composed) for composed in self.scenes])

    @torch.inference_mode()
    def encode(self, model: JanusForConditionalGeneration) -> None:
        """Run the trained frozen parts once per scene. The features are those before the aligner."""
        towers, codes = [], []
        for some in self.pixels.split(500):
            towers.append(model.model.vision_model(some.float()).last_hidden_state.half())
            codes.append(encode_for_generation(model, some.float()).short())
        self.features, self.codes = torch.cat(towers), torch.cat(codes)


def _patch_labels(composed: Composed) -> torch.Tensor:
    """Shape and colour in each patch, ``(2, tokens)`` int64, 0 for none: that of the item around its middle."""
    centres = (np.arange(SIDE // PATCH) + 0.5) * PATCH / SIDE
    labels = np.zeros((2, len(centres), len(centres)), np.int64)
    reach = 0.4 * PATCH / SIDE
    for item in composed.scene.items:
        rows = np.abs(centres - item.y) < item.half_height + reach
        columns = np.abs(centres - item.x) < item.half_width + reach
        inside = np.ix_(rows, columns)
        labels[0][inside] = 1 + SHAPES.index(item.shape)
        labels[1][inside] = 1 + list(COLORS).index(item.color)
    return torch.from_numpy(labels.reshape(2, -1))
