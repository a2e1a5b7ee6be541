"""How evenly a score is spread over clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev


@dataclass(frozen=True)
class Spread:
    """Scores of several clients.

    Attributes:
        worst: the client with the lowest score.
        lowest, highest, mean: of the scores, each client counted once.
        deviation: standard deviation of the population.
        gini: see :func:`gini`; None where a score is below 0.
    """

    worst: str
    lowest: float
    highest: float
    mean: float
    deviation: float
    gini: float | None


def spread(scores: Mapping[str, float]) -> Spread | None:
    """Of two clients or more; else None."""
    if len(scores) < 2:
        return None
    worst = min(scores, key=lambda name: scores[name])
    values = list(scores.values())
    return Spread(worst, scores[worst], max(values), fmean(values), pstdev(values), gini(values))


def gini(values: Sequence[float]) -> float | None:
    """Gini coefficient: the mean difference of all pairs (each with itself, too), over twice the mean.

    0: all are equal; 1 - 1/n: one of n has everything. None where a value is below 0, or all are 0.
    """
    total, count = sum(values), len(values)
    if not total > 0 or min(values) < 0:
        return None
    ranked = sum(place * value for place, value in enumerate(sorted(values), start=1))
    return max(0.0, 2 * ranked / (count * total) - (count + 1) / count)
