"""FFA-LoRA (Sun et al., 2024, https://arxiv.org/abs/2403.12313)."""

from __future__ import annotations

from fedumm.adapters.factors import Factor
from fedumm.aggregation.methods.fedavg import FedAvg
from fedumm.aggregation.registry import register_aggregator


@register_aggregator("ffa_lora")
class FFALoRA(FedAvg):
    """A stays at its common random start, and B is averaged: ``B = sum_k p_k B_k``.

    Exact, as all products share one A: ``sum_k p_k s B_k A = s B A``. Half the traffic of FedAvg, and noise added
    to B alone enters the weights linearly. Server memory: as FedAvg's, for half the tensors.
    """

    def trainable_factors(self, round_number: int) -> frozenset[Factor]:
        """B."""
        return frozenset({"B"})
