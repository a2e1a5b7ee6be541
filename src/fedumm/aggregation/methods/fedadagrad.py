"""FedAdagrad (Reddi et al., 2021, https://arxiv.org/abs/2003.00295)."""

from __future__ import annotations

from typing import ClassVar

import torch

from fedumm.aggregation.server_optimizer import AdaptiveOptimizer


class FedAdagrad(AdaptiveOptimizer):
    """Adagrad at the server: ``v_t = v_{t-1} + Delta_t^2``; steps get shorter for good.

    The paper's experiments have no momentum here: ``momentum=0``.
    """

    name = "fedadagrad"
    options: ClassVar[tuple[str, ...]] = ("server_lr", "server_momentum", "server_tau")

    def second_moment(self, v: torch.Tensor, squared: torch.Tensor) -> torch.Tensor:
        """``v + Delta^2``."""
        return v + squared
