"""The learning rate of each setting, chosen as a reader may believe it: by held-out data, never by the test set.

Held-out rows are no part of the common test set that the tables report. A central run holds some out in a search only:
a full one trains on all rows, so without a search nothing is chosen for it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from fedumm.studies.results import Outcome, Spread, spread
from fedumm.studies.study import Study
from fedumm.studies.study_run import CHOSEN
from fedumm.tasks import TASK_OPTIONS, TASKS, VQA

_ERRORS = 2.0
"""Standard errors of a difference within which two scores are called equal."""


@dataclass(frozen=True)
class Trial:
    """One learning rate that was tried for one setting.

    Attributes:
        value: the learning rate.
        heldout: the mean score on held-out data over its runs, 0 to 1; None: its training diverged.
        rows: how many rows that score is of, over all its runs.
        error: its standard error at most, as if a row's score were independent of another's.
    """

    value: Any
    heldout: float | None
    rows: int = 0
    error: float = 0.0


@dataclass(frozen=True)
class Choice:
    """What was chosen for one setting and one kind of run.

    Attributes:
        setting: the options that have several values, but the seed and what is chosen.
        kind: ``federated``, ``central`` or ``local_only``.
        trials: all that were tried, in the order of the study.
        test: what the chosen one's full runs score on the common test set; None as long as there are none.
        runs: the names of all runs that tried one. Several settings of a baseline may have the same.
    """

    setting: Mapping[str, Any]
    kind: str
    trials: Sequence[Trial]
    test: Spread | None = None
    runs: tuple[str, ...] = ()

    @cached_property
    def best(self) -> Trial | None:
        """The one with the highest score on held-out data; of equals the first; None if all diverged."""
        sound = [trial for trial in self.trials if trial.heldout is not None]
        return max(sound, key=lambda trial: trial.heldout or 0.0) if sound else None

    @property
    def edge(self) -> str:
        """``lowest`` or ``highest`` if the choice is the end of what was tried, so that the best may lie beyond."""
        if self.best is None:
            return ""
        values = [trial.value for trial in self.trials]
        return {min(values): "lowest", max(values): "highest"}.get(self.best.value, "")

    @property
    def close(self) -> list[Trial]:
        """Others whose score is within two standard errors of the best one's."""
        best = self.best
        if best is None or best.heldout is None:
            return []
        return [
            trial
            for trial in self.trials
            if trial is not best
            and trial.heldout is not None
            and best.heldout - trial.heldout <= _ERRORS * math.hypot(best.error, trial.error)
        ]


def choices(study: Study, found: Mapping[str, Outcome]) -> list[Choice]:
    """A choice for each setting and kind for which every learning rate was tried; none if there is one only.

    Args:
        found: what finished runs reached, by name, short ones among them.
    """
    if CHOSEN not in study.grid:
        return []
    result = []
    for kind, setting, by_rate in study.trials():
        lowest = _lowest(study, setting)
        trials = [_trial(value, list(map(found.get, names)), lowest) for value, names in by_rate.items()]
        if all(trials):
            names = tuple(name for own in by_rate.values() for name in own)
            result.append(Choice(setting, kind, [trial for trial in trials if trial], runs=names))
    return result


def chosen(study: Study, found: Mapping[str, Outcome]) -> Study:
    """The study with the learning rates that its short runs choose; itself if it is no search."""
    made = {(one.kind, *one.setting.values()): one.best.value for one in choices(study, found) if one.best}
    return study.settled(made)


def with_test(study: Study, own: Sequence[Choice], found: Mapping[str, Outcome]) -> list[Choice]:
    """The choices with what the full runs of ``study``, which has settled on them, score on the test set."""
    result = []
    for one in own:
        names = study.full_runs(one.kind, one.setting, one.best.value) if one.best else []
        scores = [found[name].scores[one.kind] for name in names if one.kind in getattr(found.get(name), "scores", ())]
        test = spread(scores, len(names)) if scores else None
        result.append(replace(one, test=test))
    return result


def _lowest(study: Study, setting: Mapping[str, Any]) -> float:
    """The lowest score that there can be."""
    task = str(setting.get("task", study.base.get("task", VQA.name)))
    return min(TASKS[name].lowest for name in TASK_OPTIONS.get(task, (VQA.name,)))


def _trial(value: Any, runs: Sequence[Outcome | None], lowest: float) -> Trial | None:
    """None as long as a run is missing, or has no held-out data."""
    if any(run is not None and run.diverged for run in runs):
        return Trial(value, None)
    held = [(run.heldout, run.rows) for run in runs if run is not None and run.heldout is not None]
    if not runs or len(held) < len(runs):
        return None
    mean = statistics.fmean(score for score, _ in held)
    # Of scores from a to 1 with mean m, the variance is (1 - m)(m - a) at most.
    most = max(0.0, (1 - mean) * (mean - lowest))
    effective = _effective([_effective(rows) for _, rows in held])
    error = math.sqrt(most / effective) if effective else 0.0
    return Trial(value, mean, sum(sum(rows) for _, rows in held), error)


def _effective(counts: Sequence[float]) -> float:
    """As many rows in one mean have the error of a mean of means over so many rows each; 0 if there are none."""
    return len(counts) ** 2 / sum(1 / count for count in counts) if counts and all(counts) else 0.0
