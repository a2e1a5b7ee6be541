"""Detectors for GenEval, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fedumm.detectors.protocol import Detector, Look
from fedumm.errors import FedummError
from fedumm.metrics.geneval import Prompt
from fedumm.registry import Registry

EXACT, MASK2FORMER = "exact", "mask2former+clip"
SHIPPED = {EXACT: "fedumm.detectors.exact", MASK2FORMER: "fedumm.detectors.mask2former_clip"}

__all__ = [
    "DETECTORS",
    "EXACT",
    "MASK2FORMER",
    "Detector",
    "DetectorFactory",
    "Look",
    "detector_for",
    "fitting",
    "get_detector",
    "register_detector",
]

DetectorFactory = Callable[[str, str, str], Detector]
"""Makes a detector of ``--detector_weights``, ``--color_weights`` (either may be empty) and a device."""


def _checked(name: str, item: Any) -> DetectorFactory:
    if not callable(item):
        raise FedummError(f"Detector {name!r} is no function of detector_weights, color_weights and a device.")
    return item  # type: ignore[no-any-return]


DETECTORS: Registry[DetectorFactory] = Registry(
    "detector", "fedumm.detectors", SHIPPED, lambda module, _: module.load, _checked
)

register_detector = DETECTORS.register
"""``@register_detector(name)`` above a :data:`DetectorFactory`, or ``register_detector(name, factory)``."""


def get_detector(name: str, detector_weights: str = "", color_weights: str = "", device: str = "cpu") -> Detector:
    """The detector called ``name``.

    Args:
        detector_weights, color_weights: of ``mask2former+clip`` Hub names or folders; empty: the official ones.
        device: where its models run.

    Raises:
        FedummError: no such detector, or its weights can't be had.
    """
    return DETECTORS.get(name, " One of your own is loaded with --plugin FILE.")(
        detector_weights, color_weights, device
    )


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
