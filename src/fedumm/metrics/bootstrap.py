"""How sure a mean is: bootstrap intervals (Efron & Tibshirani, 1993), by the percentile method.

Questions about one image are not independent of each other: who sees a picture wrongly answers several of them wrongly.
So whole images are drawn, with all that belongs to them (the cluster bootstrap: Field & Welsh, 2007), never single
questions. The interval says how the mean would vary with other images of the same kind. It does not say how it would
vary with another seed of the training.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 2000
_MOST_DRAWN = 2_000_000


@dataclass(frozen=True)
class Estimate:
    """A mean, and an interval around it.

    Attributes:
        mean: of ``count`` values, which belong to ``groups`` groups.
        low, high: the ends of the interval; None with fewer than two groups, of which nothing can be said.
    """

    mean: float
    count: int
    groups: int
    low: float | None = None
    high: float | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends, or None."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def estimate(
    values: Sequence[float],
    groups: Sequence[Hashable],
    *,
    strata: Sequence[Hashable] | None = None,
    seed: int = 0,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The mean of ``values`` with its interval.

    Args:
        values: one at least.
        groups: what each belongs to (its image); groups are drawn as wholes.
        strata: what each is (its task): then the mean is that of the strata's means, each with equal weight. A draw
            without any value of a stratum does not count.
        seed: of the draws.
        level: share of the draws that lie within the interval.
        resamples: number of draws, each of as many groups as there are.

    Raises:
        ValueError: there is no value.

    Example:
        >>> estimate([1.0, 0.0, 1.0, 0.0], ["a", "a", "b", "b"])
        Estimate(mean=0.5, count=4, groups=2, low=0.5, high=0.5)
    """
    if not len(values):
        raise ValueError("no value to take the mean of")
    sums, counts = _by_group(values, groups, strata)
    mean = float((sums.sum(0) / counts.sum(0)).mean())
    if len(sums) < 2:
        return Estimate(mean, len(values), len(sums))
    means = _resampled(sums, counts, np.random.default_rng(seed), resamples)
    low, high = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(mean, len(values), len(sums), float(low), float(high))


def _by_group(
    values: Sequence[float], groups: Sequence[Hashable], strata: Sequence[Hashable] | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum and number of values, both of shape (groups, strata)."""
    rows = {group: row for row, group in enumerate(dict.fromkeys(groups))}
    kinds = [0] * len(values) if strata is None else strata
    columns = {kind: column for column, kind in enumerate(dict.fromkeys(kinds))}
    sums, counts = np.zeros((len(rows), len(columns))), np.zeros((len(rows), len(columns)), np.int64)
    places = [rows[group] for group in groups], [columns[kind] for kind in kinds]
    np.add.at(sums, places, np.asarray(values, np.float64))
    np.add.at(counts, places, 1)
    return sums, counts


def _resampled(
    sums: NDArray[np.float64], counts: NDArray[np.int64], rng: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """The mean of each draw, shape (resamples,); NaN where a stratum has no value. No more memory than is needed."""
    block, means = max(1, _MOST_DRAWN // len(sums)), []
    for start in range(0, resamples, block):
        drawn = rng.integers(0, len(sums), (min(block, resamples - start), len(sums)))
        with np.errstate(invalid="ignore"):
            means.append((sums[drawn].sum(1) / counts[drawn].sum(1)).mean(1))
    return np.concatenate(means)
