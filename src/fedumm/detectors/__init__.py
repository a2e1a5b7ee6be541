"""Detectors for GenEval, by name."""

from __future__ import annotations

from collections.abc import Iterable

from fedumm.detectors.protocol import Detector, Look
from fedumm.errors import FedummError, did_you_mean
from fedumm.metrics.geneval import Prompt

EXACT, MASK2FORMER = "exact", "mask2former+clip"
NAMES = (EXACT, MASK2FORMER)

__all__ = ["EXACT", "MASK2FORMER", "NAMES", "Detector", "Look", "detector_for", "get_detector"]


def get_detector(name: str, detector_weights: str = "", color_weights: str = "", device: str = "cpu") -> Detector:
    """The detector called ``name``.

    Args:
        detector_weights, color_weights: Hub names or folders for ``mask2former+clip``; empty: the official ones.
        device: where its models run.

    Raises:
        FedummError: no such detector, or its weights can't be had.
    """
    if name == EXACT:
        from fedumm.detectors.exact import ExactDetector

        return ExactDetector()
    if name == MASK2FORMER:
        from fedumm.detectors.mask2former_clip import Mask2FormerClip

        return Mask2FormerClip.load(detector_weights, color_weights, device)
    raise FedummError(f"Unknown detector {name!r}. Available: {', '.join(NAMES)}.{did_you_mean(name, NAMES)}")


def fitting(prompts: Iterable[Prompt]) -> str:
    """``exact`` if it knows all classes and colours that ``prompts`` name, else ``mask2former+clip``."""
    from fedumm.data.shapes.scene import COLORS
    from fedumm.detectors.exact import CLASSES

    clauses = [clause for p in prompts for kind in ("include", "exclude") for clause in p.get(kind, ())]
    known = all(c["class"] in CLASSES and c.get("color", "red") in COLORS for c in clauses)
    return EXACT if known else MASK2FORMER


def detector_for(prompts: Iterable[Prompt]) -> Detector:
    """The detector that fits ``prompts``."""
    return get_detector(fitting(prompts))
