"""Coordinate-wise trimmed mean (Yin et al., 2018, https://arxiv.org/abs/1803.01498)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import torch

from fedumm.aggregation.robust import RobustAggregator

if TYPE_CHECKING:
    from typing_extensions import Self

    from fedumm.config import FederateConfig


class TrimmedMean(RobustAggregator):
    """The mean of each entry over the clients, without its largest and its smallest values.

    Of n values ``floor(trim_ratio n)`` are cut at each end, and of three or more at least one, so that a few clients
    are protected too: up to as many bad ones cannot move an entry beyond the others' values. One or two clients are
    averaged. Weights are not used; the server holds all updates of the round.

    Args:
        trim_ratio: in [0, 0.5); 0 cuts nothing.
    """

    name = "trimmed_mean"
    options: ClassVar[tuple[str, ...]] = ("trim_ratio",)

    def __init__(self, trim_ratio: float = 0.2) -> None:
        self.trim_ratio = trim_ratio

    @classmethod
    def from_config(cls, config: FederateConfig) -> Self:
        """With ``trim_ratio``."""
        return cls(config.trim_ratio)

    def cut(self, count: int) -> int:
        """How many of ``count`` values are cut at each end."""
        if not self.trim_ratio or count < 3:
            return 0
        # 0.29 of 100 is 29, though the float64 product lies below.
        return min(max(1, math.floor(self.trim_ratio * count + 1e-9)), (count - 1) // 2)

    def centre(self, values: torch.Tensor) -> torch.Tensor:
        """The trimmed mean over the first dimension."""
        cut = self.cut(len(values))
        return values.sort(dim=0).values[cut : len(values) - cut].mean(dim=0)
