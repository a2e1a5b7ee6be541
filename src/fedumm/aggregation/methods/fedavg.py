"""FedAvg (McMahan et al., 2017, https://arxiv.org/abs/1602.05629), on the LoRA factors (FedIT)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from fedumm.adapters.state import AdapterState


@dataclass
class FedAvg:
    """Weighted mean of adapters: ``sum_k w_k x_k / sum_k w_k`` for every tensor, over those that sent it.

    The factors A and B are averaged separately, so the result is not the mean of the
    clients' products B A. Sums are kept in float64 and returned in the tensors' own
    dtype; memory does not grow with the number of clients.

    Example:
        >>> mean = FedAvg()
        >>> mean.add({"a": torch.tensor([1.0])}, weight=1)
        >>> mean.add({"a": torch.tensor([4.0]), "b": torch.tensor([5.0])}, weight=2)
        >>> {name: tensor.item() for name, tensor in mean.finish().items()}
        {'a': 3.0, 'b': 5.0}
    """

    weights: dict[str, float] = field(default_factory=dict)
    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    dtypes: dict[str, torch.dtype] = field(default_factory=dict)

    def add(self, update: Mapping[str, torch.Tensor], weight: float) -> None:
        """Count ``update`` with a positive ``weight`` (by default: its number of samples)."""
        if not 0 < weight < math.inf:
            raise ValueError(f"weight must be positive and finite, not {weight}")
        for name, tensor in update.items():
            if name not in self.sums:
                self.sums[name] = torch.zeros_like(tensor, dtype=torch.float64)
                self.weights[name], self.dtypes[name] = 0.0, tensor.dtype
            self.sums[name] += weight * tensor.to(torch.float64)
            self.weights[name] += weight

    def finish(self) -> AdapterState:
        """The mean of what was added; a tensor that nobody sent is not in it.

        Raises:
            ValueError: nothing was added.
        """
        if not self.sums:
            raise ValueError("no update to average")
        return {name: (s / self.weights[name]).to(self.dtypes[name]) for name, s in self.sums.items()}
