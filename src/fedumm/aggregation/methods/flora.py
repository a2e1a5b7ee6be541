"""FLoRA (Wang et al., 2024, https://arxiv.org/abs/2409.05976): the clients' factors stacked, into the backbone."""

from __future__ import annotations

from fedumm.adapters.state import AdapterState
from fedumm.aggregation.base import AggregationResult, BackboneDelta
from fedumm.aggregation.buffered import BufferedAggregator
from fedumm.aggregation.initial import initial_a
from fedumm.aggregation.low_rank import shortened
from fedumm.aggregation.registry import register_aggregator
from fedumm.lazy import torch


@register_aggregator("flora")
class FLoRA(BufferedAggregator):
    """``W0 += [p_1 s_1 B_1, ..., p_K s_K B_K] [A_1; ...; A_K]`` and a fresh adapter: exact, and of any ranks.

    The fresh adapter is PEFT's, B = 0 and A drawn, and adds nothing. A module counts those that sent a factor of
    it; one that nobody sent keeps its factors. Plain tensors are averaged. The change is of rank
    ``min(sum_k r_k, out, in)``, so what a client downloads grows with K. Memory: K adapters.
    """

    supports_deltas = False
    unequal_ranks = True
    updates_base_model = True

    def finish(self) -> AggregationResult:
        """The fresh adapter, and the change; the base class says more."""
        factors: AdapterState = {}
        change: BackboneDelta = {}
        for module, (a_name, b_name), update in self.updates():
            dtype = self.start[b_name].dtype
            left, right = shortened(*update)
            change[module] = (left.to(dtype), right.to(dtype))
            factors[a_name] = initial_a(self.start[a_name], self.seed, module)
            factors[b_name] = torch.zeros_like(self.start[b_name])
        return AggregationResult(self.completed(factors), change)
