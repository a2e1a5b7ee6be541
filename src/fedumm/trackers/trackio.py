"""Trackio of Hugging Face: a run in the project ``fedumm``, in a database on this machine (``trackio show``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from fedumm.trackers.protocol import Axis

PROJECT = "fedumm"


class Trackio:
    """Numbers over rounds, epochs or steps.

    Not tried with the package itself: it asks for other versions of its libraries than fedumm's other parts do.
    """

    packages: ClassVar[tuple[str, ...]] = ("trackio",)

    def start(self, name: str, folder: Path, options: Mapping[str, Any], known: str) -> str:
        """Create the run, or go on with the one of this name."""
        import trackio

        self._run = trackio.init(
            project=PROJECT, name=name, config=dict(options), resume="allow" if known else "never", embed=False
        )
        return "begun"

    def log(self, axis: Axis, step: int, numbers: Mapping[str, float]) -> None:
        """Add numbers, with the place on their axis as one more."""
        self._run.log({axis: step, **numbers})

    def finish(self, failed: bool) -> None:
        """End the run."""
        self._run.finish()


TRACKER = Trackio
