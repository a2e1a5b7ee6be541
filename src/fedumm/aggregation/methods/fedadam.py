"""FedAdam (Reddi et al., 2021, https://arxiv.org/abs/2003.00295)."""

from __future__ import annotations

import torch

from fedumm.aggregation.server_optimizer import AdaptiveOptimizer


class FedAdam(AdaptiveOptimizer):
    """Adam at the server: ``v_t = beta_2 v_{t-1} + (1 - beta_2) Delta_t^2``."""

    name = "fedadam"

    def second_moment(self, v: torch.Tensor, squared: torch.Tensor) -> torch.Tensor:
        """``beta_2 v + (1 - beta_2) Delta^2``."""
        return self.beta2 * v + (1 - self.beta2) * squared
