"""RoLoRA (Chen et al., 2024, https://arxiv.org/abs/2409.02346)."""

from __future__ import annotations

from fedumm.adapters.factors import Factor
from fedumm.aggregation.methods.fedavg import FedAvg
from fedumm.aggregation.registry import register_aggregator


@register_aggregator("rolora")
class RoLoRA(FedAvg):
    """Only one factor is trained and averaged in a round: B in odd rounds, A in even ones.

    Exact round by round, as all clients share the other factor: ``sum_k p_k s B_k A = s (sum_k p_k B_k) A``. Half
    the traffic of FedAvg, and unlike FFA-LoRA, A learns too. B comes first, as it starts at zero, where A has no
    gradient. Server memory: as FedAvg's, for half the tensors.
    """

    def trainable_factors(self, round_number: int) -> frozenset[Factor]:
        """B in odd rounds, A in even ones."""
        return frozenset({"B"}) if round_number % 2 else frozenset({"A"})
