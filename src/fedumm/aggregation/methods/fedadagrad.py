"""FedAdagrad (Reddi et al., 2021, https://arxiv.org/abs/2003.00295)."""

from __future__ import annotations

from fedumm.aggregation.registry import register_aggregator
from fedumm.aggregation.server_optimizer import AdaptiveOptimizer
from fedumm.lazy import torch


@register_aggregator("fedadagrad")
class FedAdagrad(AdaptiveOptimizer):
    """Adagrad at the server: ``v_t = v_{t-1} + Delta_t^2``; steps get shorter for good.

    The paper's experiments have no momentum here: ``--server_momentum 0``.
    """

    def second_moment(self, v: torch.Tensor, squared: torch.Tensor) -> torch.Tensor:
        """``v + Delta^2``."""
        return v + squared
