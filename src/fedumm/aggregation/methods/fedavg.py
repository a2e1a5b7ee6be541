"""FedAvg (McMahan et al., 2017, https://arxiv.org/abs/1602.05629), on the LoRA factors (FedIT)."""

from __future__ import annotations

from collections.abc import Mapping

from fedumm.adapters.factors import factor_of
from fedumm.adapters.state import AdapterState
from fedumm.aggregation.base import AggregationResult, Aggregator, ClientContribution
from fedumm.aggregation.registry import register_aggregator
from fedumm.aggregation.validation import check_contribution
from fedumm.aggregation.weighted_mean import WeightedMean
from fedumm.lazy import torch


@register_aggregator("fedavg")
class FedAvg(Aggregator):
    """Weighted mean of adapters: ``sum_k p_k x_k`` for every tensor, over those that sent it, in its own dtype.

    The factors A and B are averaged separately (FedIT, Zhang et al., 2023, https://arxiv.org/abs/2305.05644), so
    the result is not the mean of the clients' products B A. The server holds one adapter and exact sums, whatever
    the number of clients (:class:`fedumm.aggregation.weighted_mean.WeightedMean`).

    Example:
        >>> aggregator = FedAvg()
        >>> aggregator.begin({"a": torch.tensor([0.0]), "b": torch.tensor([7.0])}, scale=1.0, seed=0)
        >>> aggregator.add(Contribution("site-1", {"a": torch.tensor([1.0])}, weight=1))
        >>> aggregator.add(Contribution("site-2", {"a": torch.tensor([4.0])}, weight=2))
        >>> {name: tensor.item() for name, tensor in aggregator.finish().adapter.items()}
        {'a': 3.0, 'b': 7.0}
    """

    def begin(self, adapter: Mapping[str, torch.Tensor], scale: float, seed: int) -> None:
        """Forget the sums."""
        self._start = {name: tensor.clone() for name, tensor in adapter.items()}
        self._mean = WeightedMean()

    def add(self, contribution: ClientContribution) -> None:
        """Add to the sums."""
        check_contribution(contribution, self._start)
        for name in contribution.adapter:
            if (factor := factor_of(name)) and factor not in self.communicated_factors:
                raise ValueError(f"{name} was not to be sent: {self.name} leaves it with the client")
        self._mean.add(contribution.adapter, contribution.weight)

    def finish(self) -> AggregationResult:
        """The means, and what nobody sent as it was."""
        means = self._mean.result()
        adapter: AdapterState = {
            name: means[name].to(own.dtype) if name in means else own.clone() for name, own in self._start.items()
        }
        return AggregationResult(adapter)
