"""What a detector offers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from fedumm.metrics.geneval import Detection, Prompt


@dataclass(frozen=True)
class Look:
    """What is on an image, and how to learn an object's colour."""

    detections: Sequence[Detection]
    color_of: Callable[[Detection], str]


class Detector(Protocol):
    """Finds objects and names their colours."""

    def look(self, images: Sequence[Image.Image]) -> list[Look]:
        """What is on each image."""
        ...

    def threshold(self, prompt: Prompt) -> float:
        """Confidence that a detection must pass to count for ``prompt``."""
        ...
