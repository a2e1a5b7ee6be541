"""Scores by task, and those of several clients or hosts as one: means weighted by examples, task by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedumm.tasks import GENEVAL, TASKS, Task, in_order, selects


@dataclass(frozen=True)
class Evaluation:
    """A score in 0..1 (or the backend's own unit) on one task, and the number of samples it is a mean of.

    ``parts`` holds the same pair for named subsets, for example answer types; ``loss`` the mean loss in
    nats, where the task has one; ``others`` the means of other scores by name.
    """

    score: float
    count: int
    parts: dict[str, tuple[float, int]]
    loss: float | None = None
    others: Mapping[str, float] = field(default_factory=dict)


Scores = dict[str, Evaluation]
"""By the task's name (:mod:`fedumm.tasks`)."""


def describe(scores: Scores) -> str:
    """Scores in a few words."""
    return "  ".join(_describe(TASKS[name], scores[name]) for name in in_order(scores))


def _describe(task: Task, own: Evaluation) -> str:
    return f"{task.short}={own.score:.4f}" if own.loss is None else f"{task.short}={own.loss:.3f} nats"


def combine(scores: Sequence[Scores]) -> Scores:
    """Means of each task over all its examples; scores without examples of a task do not count for it."""
    tasks = sorted({task for own in scores for task in own})
    return {task: _combine(task, [own[task] for own in scores if task in own]) for task in tasks}


def _combine(task: str, evaluations: Sequence[Evaluation]) -> Evaluation:
    names = sorted({name for e in evaluations for name in e.parts})
    parts = {name: _mean([e.parts[name] for e in evaluations if name in e.parts]) for name in names}
    score, count = _mean([(e.score, e.count) for e in evaluations])
    if task == GENEVAL.name:
        # Every category counts the same.
        score = sum(share for share, _ in parts.values()) / len(parts)
    losses = [(e.loss, e.count) for e in evaluations if e.loss is not None]
    names = sorted({name for e in evaluations for name in e.others})
    others = {name: _mean([(e.others[name], e.count) for e in evaluations if name in e.others])[0] for name in names}
    return Evaluation(score, count, parts, _mean(losses)[0] if losses else None, others)


def _mean(values: Sequence[tuple[float, int]]) -> tuple[float, int]:
    total = sum(count for _, count in values)
    return sum(value * count for value, count in values) / total, total


def mean_score(scores: Scores) -> float | None:
    """The mean over the tasks that select the best round, or None without any."""
    values = [own.score for task, own in scores.items() if selects(task)]
    return sum(values) / len(values) if values else None


def summary(name: str, scores: Scores) -> dict[str, Any]:
    """``name``: the :func:`mean_score`; ``name_tasks``: each task's score, count, loss, parts and others."""
    tasks = {
        task: {"score": e.score, "count": e.count, "parts": {part: score for part, (score, _) in e.parts.items()}}
        | ({} if e.loss is None else {"loss": e.loss})
        | ({"others": dict(e.others)} if e.others else {})
        for task, e in scores.items()
    }
    return {name: mean_score(scores), f"{name}_tasks": tasks}
