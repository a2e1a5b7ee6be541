"""LoRA factors before any training, as PEFT draws them."""

from __future__ import annotations

from fedumm.lazy import torch
from fedumm.seeds import derive


def initial_a(like: torch.Tensor, seed: int, module: str) -> torch.Tensor:
    """An A of the shape ``(rank, in)`` and dtype of ``like``: uniform in ±1/sqrt(in), the same for equal arguments.

    PEFT's ``kaiming_uniform_(a=sqrt(5))``, whose bound is that.
    """
    generator = torch.Generator().manual_seed(derive(seed, "initial_a", module))
    bound = like.shape[1] ** -0.5
    return torch.empty(like.shape).uniform_(-bound, bound, generator=generator).to(like.dtype)
