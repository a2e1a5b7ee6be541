"""Trackers of experiments: where a run's numbers go besides its own folder, by ``--tracker``.

Each is one file, imported if it was asked for. What they are told is numbers, the names of tasks and clients, and the
options of the run that are no paths: no text of the data.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from fedumm.errors import FedummError
from fedumm.registry import Registry
from fedumm.trackers.protocol import Tracker

TENSORBOARD = "tensorboard"
SHIPPED = {name: f"fedumm.trackers.{name}" for name in (TENSORBOARD, "mlflow", "wandb", "trackio")}

__all__ = ["SHIPPED", "TENSORBOARD", "TRACKERS", "Tracker", "check_trackers", "register_tracker"]


def _checked(name: str, item: Any) -> type[Tracker]:
    for method in ("start", "log", "finish"):
        if not callable(getattr(item, method, None)):
            raise FedummError(f"Tracker {name!r} has no method {method!r}: see fedumm.trackers.protocol.Tracker.")
    return item  # type: ignore[no-any-return]


TRACKERS: Registry[type[Tracker]] = Registry(
    "tracker", "fedumm.trackers", SHIPPED, lambda module, _: module.TRACKER, _checked
)

register_tracker = TRACKERS.register
"""``@register_tracker(name)`` above a class with the methods of :class:`Tracker`."""


def check_trackers(names: Sequence[str]) -> None:
    """Raise :class:`FedummError` for an unknown name, or a tracker whose package is not installed. Imports none."""
    for name in names:
        TRACKERS.check(name, " none: no tracker.")
        packages = getattr(TRACKERS.get(name), "packages", ())
        if missing := [package for package in packages if importlib.util.find_spec(package) is None]:
            raise FedummError(
                f"--tracker {name} needs the package {missing[0]}, which is not installed: pip install 'fedumm[{name}]'"
            )
