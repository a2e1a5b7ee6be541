"""Losses by training step, kept in a run's folder: ``steps/CLIENT.jsonl``, of a central run ``steps/central.jsonl``.

Only hosts on the machine of the run write them: of a real site's training no more is told than its updates say. A line
is a round (or an epoch): ``{"part": 3, "steps": [2, 4], "losses": [0.71, 0.64]}``, where a loss is the mean over the
samples since the step before it in the list.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedumm.files import write_atomically

STEPS = "steps"
CENTRAL = "central"

_MOST = 200_000
"""Points in all files of a run, about 4 MB."""

_MOST_OF_A_PART = 200
_LARGEST = 20_000_000

Losses = dict[int, list[tuple[int, float]]]
"""By round or epoch: steps, counted from the client's first one in the run, and losses."""


def points_of_a_part(parts: int) -> int:
    """How many points each round of a client may have, of ``parts`` in the run."""
    return max(1, min(_MOST_OF_A_PART, _MOST // max(1, parts)))


class StepLosses:
    """Collects the losses of one client, and thins them out by averaging.

    Args:
        path: the client's file.
        most: points of a round or epoch.
    """

    def __init__(self, path: Path, most: int = _MOST_OF_A_PART) -> None:
        self._path, self._most = path, most
        self._begin()

    def _begin(self) -> None:
        self._stride, self._in_last = (1 if self._most > 1 else 2**62), 0
        self._steps = 0
        self._points: list[tuple[int, float, int]] = []

    def add(self, loss: float, samples: int) -> None:
        """Count a step: its mean loss, and over how many samples that is."""
        self._steps += 1
        step = self._steps
        if self._in_last and self._in_last < self._stride:
            self._points[-1] = _joined(self._points[-1], (step, loss, samples))
        else:
            if len(self._points) == self._most:
                self._points = [_joined(*self._points[n : n + 2]) for n in range(0, self._most, 2)]
                self._stride *= 2
            self._points.append((step, loss, samples))
            self._in_last = 0
        self._in_last += 1

    def end(self, part: int) -> None:
        """Write what was collected as round or epoch ``part``. What can't be written is left out: no run ends of it."""
        points = [(step, loss) for step, loss, _ in self._points]
        self._begin()
        if not points:
            return
        losses = [round(loss, 6) if math.isfinite(loss) else None for _, loss in points]
        line = json.dumps({"part": part, "steps": [step for step, _ in points], "losses": losses})
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
            kept = [text for number, text in _lines(self._path) if number != part]
            write_atomically(self._path, "".join(f"{text}\n" for text in (*kept, line)))


def _joined(first: tuple[int, float, int], *others: tuple[int, float, int]) -> tuple[int, float, int]:
    for step, loss, samples in others:
        whole = first[2] + samples
        first = step, (first[1] * first[2] + loss * samples) / whole, whole
    return first


def _lines(path: Path) -> list[tuple[int, str]]:
    """Part and text of each line."""
    return [(part, text) for part, text, _ in _read(path)]


def _read(path: Path) -> list[tuple[int, str, Mapping[str, Any]]]:
    """The lines that are such; none if the file is too large, or none."""
    found: list[tuple[int, str, Mapping[str, Any]]] = []
    try:
        if path.is_symlink() or path.parent.is_symlink() or path.stat().st_size > _LARGEST:
            return []
        texts = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    for text in texts:
        with contextlib.suppress(ValueError, RecursionError):
            line = json.loads(text)
            if isinstance(line, dict) and type(line.get("part")) is int:
                found.append((line["part"], text, line))
    return found


def read_losses(folder: Path) -> dict[str, Losses]:
    """What is there of a run in ``folder``, by client. What is no loss is passed over: the folder may be another's."""
    found = {path.stem: _losses(path) for path in sorted((folder / STEPS).glob("*.jsonl"))}
    return {client: losses for client, losses in found.items() if losses}


def _losses(path: Path) -> Losses:
    found: Losses = {}
    before = 0
    for part, _, line in sorted(_read(path), key=lambda own: own[0]):
        steps, losses = line.get("steps"), line.get("losses")
        if not isinstance(steps, list) or not isinstance(losses, list) or len(steps) != len(losses):
            continue
        if not all(type(step) is int and 0 < step < 2**40 for step in steps):
            continue
        points = zip(steps, losses, strict=True)
        found[part] = [(before + step, loss) for step, loss in points if type(loss) is float and math.isfinite(loss)]
        before += max(steps, default=0)
    return found
