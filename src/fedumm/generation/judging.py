"""Images against the prompts they were drawn from."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from fedumm.detectors import Detector
from fedumm.metrics.geneval import Prompt, Verdict, judge


def score_images(images: Sequence[Image.Image], prompts: Sequence[Prompt], detector: Detector) -> list[Verdict]:
    """GenEval's verdict on each image and its prompt."""
    return [
        judge(prompt, look.detections, look.color_of, detector.threshold(prompt))
        for look, prompt in zip(detector.look(images), prompts, strict=True)
    ]
