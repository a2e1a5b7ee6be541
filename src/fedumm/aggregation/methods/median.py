"""Coordinate-wise median (Yin et al., 2018, https://arxiv.org/abs/1803.01498)."""

from __future__ import annotations

from fedumm.aggregation.registry import register_aggregator
from fedumm.aggregation.robust import RobustAggregator
from fedumm.lazy import torch


@register_aggregator("median")
class Median(RobustAggregator):
    """The median of each entry over the clients; of an even number, the mean of the middle two.

    Fewer than half of the clients, whatever they send, cannot move an entry beyond the others' values. Of one or two
    clients it is the mean. Weights are not used; the server holds all updates of the round.
    """

    def centre(self, values: torch.Tensor) -> torch.Tensor:
        """The median over the first dimension."""
        count, ranked = len(values), values.sort(dim=0).values
        return (ranked[(count - 1) // 2] + ranked[count // 2]) / 2
