"""Scores of several clients or hosts as one: means weighted by examples."""

from __future__ import annotations

from collections.abc import Sequence

from fedumm.training.results import Evaluation


def average(evaluations: Sequence[Evaluation]) -> float | None:
    """Mean score over all examples; None if nothing was evaluated."""
    total = sum(e.count for e in evaluations)
    return sum(e.score * e.count for e in evaluations) / total if total else None


def average_parts(evaluations: Sequence[Evaluation]) -> dict[str, float]:
    """The same for each named subset."""
    names = sorted({name for e in evaluations for name in e.parts})
    result = {}
    for name in names:
        parts = [e.parts[name] for e in evaluations if name in e.parts]
        result[name] = sum(score * count for score, count in parts) / sum(count for _, count in parts)
    return result
