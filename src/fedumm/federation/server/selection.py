"""Which version of the global adapter is the best one, by scores of the same clients on the same rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedumm.metrics.evaluation import Evaluation, Scores, combine, mean_score


class Selection:
    """The best version so far.

    A version takes the place of the best one if it scores higher on the rows of those clients of the panel that scored
    both, and these have at least half of the rows that the best one was scored on: a few clients alone don't decide.
    So no two scores of different rows are ever compared, and as long as nobody is missing, the best one is the first
    of those with the highest score on the whole panel. A best one without any score gives way to the next version.

    Attributes:
        version: the best one; -1 before the first.

    Args:
        panel: whose scores count; None: nothing may be chosen by scores, so the latest version is the best.
    """

    def __init__(self, panel: Sequence[str] | None) -> None:
        self.panel = panel
        self.version = -1
        self._scores: dict[str, Scores] = {}

    def offer(self, version: int, scores: Mapping[str, Scores]) -> bool:
        """Whether ``version``, scored by these clients, is the best one now. (Scores of clients that are not on the
        panel change nothing.)"""
        own = {client: scores[client] for client in self.panel or () if scores.get(client)}
        if self._scores and (version == self.version or not _better(own, self._scores)):
            return False
        self.version, self._scores = version, own
        return True

    def facts(self) -> dict[str, Any]:
        """All of it but the panel, as JSON."""
        return {
            "version": self.version,
            "scores": {c: {task: [e.score, e.count] for task, e in own.items()} for c, own in self._scores.items()},
        }

    def load(self, facts: Mapping[str, Any]) -> None:
        """Restore what :meth:`facts` gave."""
        self.version = facts["version"]
        self._scores = {
            c: {task: Evaluation(score, count, {}) for task, (score, count) in own.items()}
            for c, own in facts["scores"].items()
        }


def _better(new: Mapping[str, Scores], old: Mapping[str, Scores]) -> bool:
    common = [client for client in old if client in new and _rows(new[client]) == _rows(old[client])]
    if 2 * _total(old, common) < _total(old, list(old)):
        return False
    first, second = (mean_score(combine([scores[c] for c in common])) for scores in (new, old))
    # Equal numbers of right answers, spread otherwise over the clients, differ by rounding.
    return (
        first is not None and second is not None and first > second and not math.isclose(first, second, rel_tol=1e-12)
    )


def _rows(scores: Scores) -> dict[str, int]:
    return {task: own.count for task, own in scores.items()}


def _total(scores: Mapping[str, Scores], clients: Sequence[str]) -> int:
    return sum(sum(_rows(scores[client]).values()) for client in clients)
