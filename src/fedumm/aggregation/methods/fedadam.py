"""FedAdam (Reddi et al., 2021, https://arxiv.org/abs/2003.00295)."""

from __future__ import annotations

from fedumm.aggregation.registry import register_aggregator
from fedumm.aggregation.server_optimizer import DecayingOptimizer
from fedumm.lazy import torch


@register_aggregator("fedadam")
class FedAdam(DecayingOptimizer):
    """Adam at the server: ``v_t = beta_2 v_{t-1} + (1 - beta_2) Delta_t^2``."""

    def second_moment(self, v: torch.Tensor, squared: torch.Tensor) -> torch.Tensor:
        """``beta_2 v + (1 - beta_2) Delta^2``."""
        return self.options.server_beta2 * v + (1 - self.options.server_beta2) * squared
