"""The learning rate of each setting, chosen as a reader may believe it: by held-out data, never by the test set.

The clients' held-out rows are no part of the common test set that the tables report. A central run holds out none, so
nothing is chosen for it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedumm.studies.results import Outcome, Spread, spread
from fedumm.studies.study import FEDERATED, LOCAL_ONLY, Study

CHOSEN = "lr"
KINDS = (FEDERATED, LOCAL_ONLY)
"""Kinds of runs with held-out data."""


@dataclass(frozen=True)
class Choice:
    """What was chosen for one setting and one kind of run.

    Attributes:
        setting: the options that have several values, but the seed and what is chosen.
        kind: ``federated`` or ``local_only``.
        value: the one with the highest mean score on held-out data over all seeds; of equals the first.
        heldout: that mean, 0 to 1.
        test: what its runs score on the common test set.
    """

    setting: Mapping[str, Any]
    kind: str
    value: Any
    heldout: float
    test: Spread


def choices(study: Study, found: Mapping[str, Outcome]) -> list[Choice]:
    """A choice for each setting and kind of which every run is finished; none if there is nothing to choose from."""
    if CHOSEN not in study.varied:
        return []
    tried: dict[tuple[str, tuple[Any, ...]], list[Choice]] = {}
    for cell in study.cells():
        setting = {name: value for name, value in cell.setting.items() if name != CHOSEN}
        for kind in KINDS:
            runs = [found.get(name) for name in cell.runs.get(kind, ())]
            one = _tried(setting, kind, cell.setting[CHOSEN], [run for run in runs if run], len(runs))
            tried.setdefault((kind, tuple(setting.values())), []).extend([one] if one else [])
    needed = len(study.grid[CHOSEN])
    return [max(own, key=lambda one: one.heldout) for own in tried.values() if len(own) == needed]


def _tried(setting: Mapping[str, Any], kind: str, value: Any, runs: Sequence[Outcome], expected: int) -> Choice | None:
    held = [run.heldout for run in runs if run.heldout is not None]
    if not expected or len(held) < expected:
        return None
    scores = [run.scores[kind] for run in runs]
    return Choice(setting, kind, value, statistics.fmean(held), spread(scores, expected))
