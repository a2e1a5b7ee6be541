"""What the runs of a study reached: read from their folders, and put together over seeds."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedumm.errors import FedummError
from fedumm.report.run_folder import METRICS, read_records
from fedumm.studies.study import Study
from fedumm.studies.study_run import CENTRAL, FEDERATED, LOCAL_ONLY, ZERO_SHOT, StudyRun

Scores = dict[str, float]


@dataclass(frozen=True)
class Outcome:
    """What one finished run reached.

    Attributes:
        scores: on the common test set, 0 to 1, by column.
        seconds: that it took.
        heldout: the mean score on held-out data; None where there are none.
        rows: how many rows are held out, of each whose score counts the same in that mean.
        diverged: a short run whose loss was no longer a number; it has no scores.
    """

    scores: Scores
    seconds: float
    heldout: float | None = None
    rows: tuple[int, ...] = ()
    diverged: bool = False


@dataclass(frozen=True)
class Spread:
    """One column of one row over the seeds that are finished.

    Attributes:
        n: their number.
        expected: the seeds of the study.
        mean, std: of the scores; ``std`` is the sample's standard deviation, None for a single seed.
    """

    n: int
    expected: int
    mean: float
    std: float | None
    least: float
    most: float


@dataclass(frozen=True)
class Row:
    """One setting of a study, and the spread of each column that has a finished run."""

    setting: Mapping[str, Any]
    columns: Mapping[str, Spread]


DIVERGED = "diverged.txt"
"""In the folder of a short run whose loss was no longer a number."""

WORST = "local_only_worst"
BEST = "federated_best"
ALL_COLUMNS = {
    FEDERATED: "federated",
    BEST: "federated, best round",
    CENTRAL: "central",
    LOCAL_ONLY: "local only",
    WORST: "local only, worst client",
    ZERO_SHOT: "zero-shot",
}
"""Every column of ``table.csv`` with its heading."""

SHOWN = (FEDERATED, CENTRAL, LOCAL_ONLY, WORST, ZERO_SHOT)
"""Those of the other tables."""


def _federated(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {
        FEDERATED: (summary.get("last") or {}).get("test"),
        BEST: (summary.get("best") or {}).get("test"),
        ZERO_SHOT: (summary.get("untrained") or {}).get("test"),
    }


def _central(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {CENTRAL: summary["trained"].get("test"), ZERO_SHOT: summary["untrained"].get("test")}


def _local_only(summary: Mapping[str, Any]) -> dict[str, Any]:
    test = summary["local_only"]["test"] or {}
    return {LOCAL_ONLY: test.get("mean"), WORST: test.get("worst"), ZERO_SHOT: summary["untrained"].get("test")}


_READ: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    FEDERATED: _federated,
    CENTRAL: _central,
    LOCAL_ONLY: _local_only,
}


def outcome(folder: Path, kind: str) -> Outcome | None:
    """What the run in ``folder`` reached on the common test set; None if it is not finished.

    Raises:
        FedummError: its records are damaged.
    """
    if (folder / DIVERGED).is_file():
        return Outcome({}, 0.0, diverged=True)
    if not (folder / METRICS).is_file():
        return None
    seconds, summary, setup = 0.0, None, dict[str, Any]()
    for record in read_records(folder, clients=False):
        summary = record if record["event"] == "summary" else summary
        setup = record if record["event"] == "setup" else setup
        seconds = max(seconds, float(record.get("elapsed") or 0))
    if summary is None:
        return None
    scores = {name: float(score) for name, score in _READ[kind](summary).items() if score is not None}
    heldout = _heldout(summary, kind)
    rows = () if heldout is None else _held_rows(setup, kind)
    return Outcome(scores, float(summary.get("seconds") or seconds), heldout, rows)


def _heldout(summary: Mapping[str, Any], kind: str) -> float | None:
    if kind == LOCAL_ONLY:
        value = ((summary.get("local_only") or {}).get("heldout") or {}).get("mean")
    else:
        value = (summary.get("last" if kind == FEDERATED else "trained") or {}).get("heldout")
    return None if value is None else float(value)


def _held_rows(setup: Mapping[str, Any], kind: str) -> tuple[int, ...]:
    """A federated score is a mean over rows, that of clients which are alone one over clients."""
    if kind == CENTRAL:
        return (int(setup["heldout"]),)
    clients: Mapping[str, Mapping[str, Any]] = setup.get("clients") or {}
    judges = setup.get("panel") or clients
    rows = [int(own["heldout"]) for name, own in clients.items() if kind == LOCAL_ONLY or name in judges]
    held = [own for own in rows if own]
    return tuple(held) if kind == LOCAL_ONLY else (sum(held),)


def outcomes(runs: Iterable[StudyRun], folder: Path) -> dict[str, Outcome]:
    """Of every finished one of these runs, by name; one whose records are damaged is none."""
    found = {}
    for run in runs:
        with contextlib.suppress(FedummError):
            if own := outcome(folder / run.name, run.kind):
                found[run.name] = own
    return found


def rows(study: Study, found: Mapping[str, Outcome]) -> list[Row]:
    """Each setting's scores over the seeds that are finished."""
    result = []
    for cell in study.cells():
        columns = {}
        for column in ALL_COLUMNS:
            values = [
                next(
                    (found[run].scores[column] for run in of_seed if run in found and column in found[run].scores), None
                )
                for of_seed in zip(*cell.runs.values(), strict=True)
            ]
            known = [value for value in values if value is not None]
            if known and (column != ZERO_SHOT or ZERO_SHOT in study.compare):
                columns[column] = spread(known, len(values))
        result.append(Row(cell.setting, columns))
    return result


def spread(values: Sequence[float], expected: int) -> Spread:
    """Mean and spread of some scores, of which there should be ``expected``."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return Spread(len(values), expected, statistics.fmean(values), std, min(values), max(values))
