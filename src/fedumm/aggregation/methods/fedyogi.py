"""FedYogi (Reddi et al., 2021, https://arxiv.org/abs/2003.00295)."""

from __future__ import annotations

from fedumm.aggregation.registry import register_aggregator
from fedumm.aggregation.server_optimizer import DecayingOptimizer
from fedumm.lazy import torch


@register_aggregator("fedyogi")
class FedYogi(DecayingOptimizer):
    """Yogi at the server: ``v_t = v_{t-1} - (1 - beta_2) Delta_t^2 sign(v_{t-1} - Delta_t^2)``.

    Where Adam's v forgets at a rate of v, Yogi's falls by no more than the size of Delta_t^2.
    """

    def second_moment(self, v: torch.Tensor, squared: torch.Tensor) -> torch.Tensor:
        """``v - (1 - beta_2) Delta^2 sign(v - Delta^2)``."""
        return v - (1 - self.options.server_beta2) * squared * torch.sign(v - squared)
