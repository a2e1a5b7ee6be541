"""What a tracker is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

Axis = Literal["round", "epoch", "step"]
"""What numbers are shown over: rounds, epochs of a central run, or training steps of one client."""


class Tracker(Protocol):
    """Shows a run's numbers somewhere. Made without arguments; imports its library in ``start``.

    An exception of ``start`` ends the run before any work, one of the others the tracking: the run goes on.
    """

    packages: ClassVar[tuple[str, ...]]
    """What it imports that fedumm alone does not install."""

    def start(self, name: str, folder: Path, options: Mapping[str, Any], known: str) -> str:
        """Begin.

        Args:
            name: of the run.
            folder: of the run, where a tracker may write what stays on this machine.
            options: of the run; no paths and none of this machine's.
            known: what this returned when the run began, if it is resumed; else empty.

        Returns:
            What the tracker knows the run by, letters, digits, ``-`` and ``_``; may be empty.
        """

    def log(self, axis: Axis, step: int, numbers: Mapping[str, float]) -> None:
        """Add finite numbers, by names such as ``round/train_loss`` and ``client/site-1/heldout``, at one place."""

    def finish(self, failed: bool) -> None:
        """End, and wait until all is written. ``failed``: the run did not come to its end."""
