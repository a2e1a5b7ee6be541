"""FedAvgM (Hsu et al., 2019, https://arxiv.org/abs/1909.06335)."""

from __future__ import annotations

from typing import ClassVar

from fedumm.aggregation.registry import register_aggregator
from fedumm.aggregation.server_optimizer import Moments, ServerOptimizer
from fedumm.lazy import torch


@register_aggregator("fedavgm")
class FedAvgM(ServerOptimizer):
    """FedAvg with momentum: ``m_t = beta m_{t-1} + Delta_t`` and ``x_{t+1} = x_t + lr m_t``.

    The default learning rate is 1, the paper's, so that a first round is FedAvg's. As Delta_t enters m whole, steady
    changes add up to ``1 / (1 - beta)`` times theirs.
    """

    default_lr: ClassVar[float] = 1.0

    def step(self, delta: torch.Tensor, moments: Moments) -> tuple[torch.Tensor, Moments]:
        """``lr m``."""
        m = self.options.server_momentum * moments["m"] + delta
        return self.lr * m, {"m": m}
