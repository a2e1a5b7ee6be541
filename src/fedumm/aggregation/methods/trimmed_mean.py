"""Coordinate-wise trimmed mean (Yin et al., 2018, https://arxiv.org/abs/1803.01498)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedumm.aggregation.registry import register_aggregator
from fedumm.aggregation.robust import RobustAggregator
from fedumm.config import AGGREGATION, AggregatorOptions, option, validators
from fedumm.lazy import torch


@register_aggregator("trimmed_mean")
class TrimmedMean(RobustAggregator):
    """The mean of each entry over the clients, without its largest and its smallest values.

    Of n values ``floor(trim_ratio n)`` are cut at each end, and of three or more at least one, so that a few clients
    are protected too: up to as many bad ones cannot move an entry beyond the others' values. One or two clients are
    averaged. Weights are not used; the server holds all updates of the round.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(AggregatorOptions):
        """``trim_ratio`` in [0, 0.5); 0 cuts nothing."""

        trim_ratio: float = option(AGGREGATION, "Share cut off at each end", 0.2, validators.below_half)

    options: Options

    def cut(self, count: int) -> int:
        """How many of ``count`` values are cut at each end."""
        ratio = self.options.trim_ratio
        if not ratio or count < 3:
            return 0
        # 0.29 of 100 is 29, though the float64 product lies below.
        return min(max(1, math.floor(ratio * count + 1e-9)), (count - 1) // 2)

    def centre(self, values: torch.Tensor) -> torch.Tensor:
        """The trimmed mean over the first dimension."""
        cut = self.cut(len(values))
        return values.sort(dim=0).values[cut : len(values) - cut].mean(dim=0)
