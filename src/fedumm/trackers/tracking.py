"""Passes a run's records and losses by step on to trackers. One that fails is left out: the run goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedumm.errors import FedummError
from fedumm.files import write_atomically
from fedumm.step_losses import read_losses
from fedumm.texts import one_line, tag
from fedumm.trackers import TRACKERS, Tracker
from fedumm.trackers.numbers import numbers_of, place_of
from fedumm.trackers.protocol import Axis

KNOWN = "trackers.json"
"""In a run's folder: what each tracker knows the run by."""


class Tracking:
    """The trackers of one run.

    Args:
        names: which; see :data:`fedumm.trackers.TRACKERS`.
        folder: of the run.
        warn: is told of a tracker that failed.
    """

    def __init__(self, names: Sequence[str], folder: Path, warn: Callable[[str], None]) -> None:
        self._names, self._folder, self._warn = names, folder, warn
        self._started: dict[str, Tracker] | None = None

    def start(self, options: Mapping[str, Any]) -> None:
        """Begin; otherwise the first record does.

        Raises:
            FedummError: a tracker can't.
        """
        known, name = _known(self._folder), self._folder.resolve().name
        self._started = {}
        for kind in self._names:
            tracker = TRACKERS.get(kind)()
            try:
                told = tracker.start(name, self._folder, options, known.get(kind, ""))
            except Exception as error:
                self.finish(failed=True)
                raise FedummError(f"--tracker {kind} can't start: {type(error).__name__}: {one_line(error)}") from error
            self._started[kind] = tracker
            known |= {kind: told} if told else {}
        if known:
            write_atomically(self._folder / KNOWN, json.dumps(known) + "\n")

    def on_record(self, record: Mapping[str, Any]) -> None:
        """Track what it holds; with a round or an epoch, the losses of its steps too."""
        place = place_of(record) if self._names else None
        if place is None:
            return
        if self._started is None and not self._begun():
            return
        axis: Axis = "epoch" if record["event"] == "epoch" else "round"
        self._log(axis, place, numbers_of(record))
        if record["event"] in ("round", "epoch"):
            for client, losses in read_losses(self._folder).items():
                for step, loss in losses.get(place, []):
                    self._log("step", step, {f"steps/{tag(client)}/loss": loss})

    def _begun(self) -> bool:
        """Begin so late that no run is to end of it."""
        try:
            self.start({})
        except FedummError as error:
            self._names = ()
            self._warn(str(error))
        return bool(self._names)

    def _log(self, axis: Axis, place: int, numbers: Mapping[str, float]) -> None:
        for kind, tracker in list((self._started or {}).items()) if numbers else []:
            self._guarded(kind, lambda own=tracker: own.log(axis, place, numbers))  # type: ignore[misc]

    def finish(self, failed: bool = False) -> None:
        """End; a run whose record ``summary`` did not come has failed."""
        for kind, tracker in list((self._started or {}).items()):
            self._guarded(kind, lambda own=tracker: own.finish(failed))  # type: ignore[misc]
        self._started = None
        self._names = ()

    def _guarded(self, kind: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # of a network, of a full disk, of a library: whatever it is, the run goes on
            (self._started or {}).pop(kind, None)
            self._warn(f"--tracker {kind} failed, and hears no more of this run: {one_line(error) or type(error)}")


def _known(folder: Path) -> dict[str, str]:
    """What trackers knew the run by; none if there is no such file, or somebody wrote something else into it."""
    try:
        found = json.loads((folder / KNOWN).read_bytes())
        return {k: v for k, v in found.items() if k in TRACKERS.names() and re.fullmatch(r"[\w-]{1,64}", v)}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
