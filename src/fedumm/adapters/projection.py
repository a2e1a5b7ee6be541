"""A linear layer with LoRA, as matrices."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer

from fedumm.adapters.folding import FoldedLinear


@dataclass(frozen=True)
class Projection:
    """``x -> x @ weight.T + bias + scaling * dropout(x) @ a.T @ b.T`` (Hu et al., 2021).

    ``weight`` is ``(out, in)``, ``a`` ``(rank, in)``, ``b`` ``(out, rank)``; without LoRA the last
    four fields are None.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    a: torch.Tensor | None = None
    b: torch.Tensor | None = None
    scaling: float = 1.0
    dropout: torch.nn.Module | None = None
    folded: bool = False
    """``weight`` is float32 and must not be rounded in a product (:mod:`fedumm.adapters.folding`)."""

    @property
    def drops(self) -> bool:
        """Whether the input of the low-rank part is changed at random."""
        return self.dropout is not None and self.dropout.training and getattr(self.dropout, "p", 0.0) > 0

    def merged(self) -> torch.Tensor:
        """``weight + scaling * b @ a``, differentiable in ``a`` and ``b``."""
        if self.a is None or self.b is None:
            return self.weight
        return torch.addmm(self.weight, self.b, self.a, alpha=self.scaling)


def projection_of(layer: torch.nn.Module) -> Projection | None:
    """What ``layer`` computes; None for anything but a linear layer, or one with a plain LoRA adapter."""
    if isinstance(layer, torch.nn.Linear):
        return _plain(layer)
    base = layer.base_layer if isinstance(layer, LoraLinear) else None
    if not isinstance(layer, LoraLayer) or not isinstance(base, torch.nn.Linear):
        return None
    if layer.disable_adapters and layer.merged:
        return None  # PEFT would unmerge
    if layer.disable_adapters or layer.merged:
        return _plain(base)
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if not active:
        return _plain(base)
    if len(active) > 1 or active[0] in layer.lora_variant or layer.lora_A[active[0]].bias is not None:
        return None
    a, b = layer.lora_A[active[0]], layer.lora_B[active[0]]
    if b.bias is not None:
        return None
    return replace(
        _plain(base), a=a.weight, b=b.weight, scaling=layer.scaling[active[0]], dropout=layer.lora_dropout[active[0]]
    )


def _plain(layer: torch.nn.Linear) -> Projection:
    return Projection(layer.weight, layer.bias, folded=isinstance(layer, FoldedLinear))
