"""GenEval's own way of looking: Mask2Former (Cheng et al., 2022) finds objects, CLIP names their colours.

Thresholds, templates and colours are those of the official ``evaluate_images.py``, which runs the same two
models through mmdetection and open_clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

from fedumm.data.hub_access import check_reachable, explain_hub_error
from fedumm.detectors.protocol import Look
from fedumm.errors import FedummError
from fedumm.metrics.geneval import Detection, Prompt

DETECTOR = "facebook/mask2former-swin-small-coco-instance"
COLORIST = "openai/clip-vit-large-patch14"
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
TEMPLATES = ("a photo of a {color} {name}", "a photo of a {color}-colored {name}", "a photo of a {color} object")
OTHER_NAMES = {"mouse": "computer mouse", "remote": "tv remote", "keyboard": "computer keyboard"}
"""GenEval's names for COCO's."""

_LEAST = 0.3
"""No lower threshold is ever asked for."""

_MOST = 100
_BEHIND = "#999"


class Mask2FormerClip:
    """Both models, ready to look.

    Args:
        finder: a Mask2Former for instance segmentation, with its image processor.
        clip: a CLIP, with its processor's two parts.
    """

    def __init__(self, finder: tuple[Any, Any], clip: tuple[Any, Any, Any]) -> None:
        self._finder, self._find_images = finder
        self._clip, self._clip_images, self._tokenizer = clip
        self._device = next(self._finder.parameters()).device
        self._texts: dict[str, torch.Tensor] = {}

    @classmethod
    def load(cls, detector: str = "", colorist: str = "", device: str = "cpu") -> Mask2FormerClip:
        """From folders or the Hub; the official weights by default.

        Raises:
            FedummError: there is nothing of that name, or the Hub is out of reach.
        """
        from transformers import (
            AutoTokenizer,
            CLIPImageProcessorPil,
            CLIPModel,
            Mask2FormerForUniversalSegmentation,
            Mask2FormerImageProcessorPil,
        )

        def part(kind: Any, where: str) -> Any:
            if not Path(where).is_dir():
                check_reachable("model", where)
            try:
                return kind.from_pretrained(where)
            except Exception as error:
                if Path(where).is_dir():
                    raise FedummError(f"{where} does not hold what GenEval's detector needs: {error}") from error
                raise explain_hub_error("model", where, error, "") from error

        detector, colorist = detector or DETECTOR, colorist or COLORIST
        finder = part(Mask2FormerForUniversalSegmentation, detector).to(device).eval()
        clip = part(CLIPModel, colorist).to(device).eval()
        return cls(
            (finder, part(Mask2FormerImageProcessorPil, detector)),
            (clip, part(CLIPImageProcessorPil, colorist), part(AutoTokenizer, colorist)),
        )

    def threshold(self, prompt: Prompt) -> float:
        """0.9 where objects are counted, else 0.3."""
        return 0.9 if prompt["tag"] == "counting" else _LEAST

    def look(self, images: Sequence[Image.Image]) -> list[Look]:
        """Objects on each image."""
        return [self._look(ImageOps.exif_transpose(image).convert("RGB")) for image in images]

    @torch.inference_mode()
    def _look(self, image: Image.Image) -> Look:
        inputs = self._find_images(images=[image], return_tensors="pt").to(self._device)
        output = self._finder(pixel_values=inputs["pixel_values"], pixel_mask=inputs["pixel_mask"])
        # One image has no padding: the processor scales it to whole multiples of 32.
        size = (image.height, image.width)
        logits = F.interpolate(output.masks_queries_logits, size, mode="bilinear", align_corners=False)[0]
        scores = output.class_queries_logits[0].softmax(-1)[:, :-1]
        best, places = scores.flatten().topk(min(_MOST, scores.numel()))
        names = self._finder.config.id2label
        masks: list[torch.Tensor] = []
        detections = []
        for score, place in zip(best.tolist(), places.tolist(), strict=True):
            query, label = divmod(place, scores.shape[1])
            inside = logits[query] > 0
            if not inside.any():
                continue
            confidence = score * logits[query][inside].sigmoid().mean().item()
            if confidence <= _LEAST:
                continue
            name = OTHER_NAMES.get(names[label], names[label])
            detections.append(Detection(name, _box(inside), confidence, len(masks)))
            masks.append(inside)
        return Look(detections, lambda detection: self._color(image, masks[detection.number], detection))

    @torch.inference_mode()
    def _color(self, image: Image.Image, mask: torch.Tensor, detection: Detection) -> str:
        """The colour whose texts are nearest to the object, with everything around it grey."""
        shape = Image.fromarray(mask.cpu().numpy().astype(np.uint8) * 255)
        alone = Image.composite(image, Image.new("RGB", image.size, _BEHIND), shape).crop(
            tuple(int(edge) for edge in detection.box)  # type: ignore[arg-type]
        )
        pixels = self._clip_images(images=[alone], return_tensors="pt").pixel_values.to(self._device)
        features = _pooled(self._clip.get_image_features(pixel_values=pixels))
        return COLORS[int((F.normalize(features, dim=-1) @ self._classifier(detection.name).T).argmax())]

    def _classifier(self, name: str) -> torch.Tensor:
        """A text vector for each colour: the mean over templates."""
        if name not in self._texts:
            rows = []
            for color in COLORS:
                texts = [template.format(color=color, name=name) for template in TEMPLATES]
                tokens = self._tokenizer(texts, padding=True, return_tensors="pt").to(self._device)
                embeds = F.normalize(_pooled(self._clip.get_text_features(**tokens)), dim=-1)
                rows.append(F.normalize(embeds.mean(0), dim=-1))
            self._texts[name] = torch.stack(rows)
        return self._texts[name]


def load(detector_weights: str, color_weights: str, device: str) -> Mask2FormerClip:
    """With the official weights where none are named."""
    return Mask2FormerClip.load(detector_weights, color_weights, device)


def _pooled(output: Any) -> torch.Tensor:
    """Projected features: a tensor, or an output that holds it."""
    features: torch.Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return features


def _box(mask: torch.Tensor) -> tuple[float, float, float, float]:
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    return (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
