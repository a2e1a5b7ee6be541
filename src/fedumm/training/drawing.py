"""A few captions drawn and judged while a model is being trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedumm.backends.protocol import DrawsImages, Progress
from fedumm.config import RunConfig
from fedumm.seeds import derive
from fedumm.training.backbone import Backbone
from fedumm.training.results import Evaluation

if TYPE_CHECKING:
    from fedumm.detectors import Detector

_BATCH = 16


@dataclass(frozen=True)
class DrawingTest:
    """Captions as prompts of GenEval, a seed for each image, and the detector that looks at the images."""

    prompts: Sequence[dict[str, Any]]
    seeds: Sequence[int]
    detector: Detector

    def score(self, backbone: Backbone, progress: Progress) -> Evaluation:
        """Share of images that show what their captions say, also by category."""
        from fedumm.generation import score_images

        backend = backbone.backend
        assert isinstance(backend, DrawsImages)
        right: dict[str, list[bool]] = {}
        for start in range(0, len(self.prompts), _BATCH):
            progress("drawing", start, len(self.prompts))
            some = self.prompts[start : start + _BATCH]
            texts = [prompt["prompt"] for prompt in some]
            with backbone.autocast():
                images = backend.draw(
                    backbone.model, backbone.processor, texts, self.seeds[start : start + _BATCH], backbone.device
                )
            for prompt, verdict in zip(some, score_images(images, some, self.detector), strict=True):
                right.setdefault(prompt["tag"], []).append(verdict.correct)
        parts = {tag: (sum(own) / len(own), len(own)) for tag, own in sorted(right.items())}
        return Evaluation(sum(share for share, _ in parts.values()) / len(parts), len(self.prompts), parts)


def drawing_test(backbone: Backbone, rows: Any, config: RunConfig, first: int = 0, step: int = 1) -> DrawingTest | None:
    """Every ``step``-th from ``first`` of the images to draw, of captions of ``rows``.

    Each category has as many images as the others, and its captions take turns: where there are few,
    they are drawn several times. None if there is nothing to draw: the options, the backend or the data
    leave it out.
    """
    wanted = config.geneval_prompts and "t2i" in config.tasks
    if not wanted or not isinstance(backbone.backend, DrawsImages) or "geneval" not in rows.column_names:
        return None
    by_tag: dict[str, dict[str, dict[str, Any]]] = {}
    for text in rows["geneval"][:]:
        if text:
            prompt = json.loads(text)
            by_tag.setdefault(prompt["tag"], {}).setdefault(prompt["prompt"], prompt)
    from fedumm.detectors import detector_for

    tags = sorted(by_tag)
    everything = []
    for number in range(config.geneval_prompts if tags else 0):
        turn, place = divmod(number, len(tags))
        own = list(by_tag[tags[place]].values())
        everything.append(own[turn % len(own)])
    numbers = range(first, len(everything), step)
    if not numbers:
        return None
    seeds = [derive(config.seed, "drawing", number) for number in numbers]
    return DrawingTest([everything[number] for number in numbers], seeds, detector_for(everything))
