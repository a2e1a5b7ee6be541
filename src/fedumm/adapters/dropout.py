"""Dropout on the input of LoRA layers, with few random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from peft.tuners.lora import LoraLayer

_LEVELS = 2**16
_CHUNK_ELEMENTS = 2**19
Model = TypeVar("Model", bound=torch.nn.Module)


def _keep(shape: Sequence[int], p: float) -> tuple[torch.Tensor, float]:
    """A boolean mask, False with probability ``p`` rounded to a multiple of 2^-16; and 1 / (1 - that)."""
    count, dropped = torch.Size(shape).numel(), round(p * _LEVELS)
    draws = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = draws.view(torch.int16)[:count].view(*shape)
    return bits >= dropped - _LEVELS // 2, _LEVELS / (_LEVELS - dropped)


class QuickDropout(torch.nn.Dropout):
    """Dropout (Srivastava et al., 2014) that draws 16 random bits an element on the CPU.

    PyTorch's own draws a double for each, which shows in the training step of a small model. The
    probability is rounded to a multiple of 2^-16, and what remains is scaled by the rounded one,
    so the expectation stays exact. On a GPU nothing changes.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``input`` with elements dropped at random, in training only."""
        if not self.training or not round(self.p * _LEVELS) or input.device.type != "cpu":
            return super().forward(input)
        kept, scale = _keep(input.shape, self.p)
        return input * kept.to(input.dtype).mul_(scale)


def quicken_dropout(model: Model) -> Model:
    """Replace the dropout of all LoRA layers in ``model``; returns it."""
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name, dropout in module.lora_dropout.items():
                if isinstance(dropout, torch.nn.Dropout):
                    module.lora_dropout[name] = QuickDropout(dropout.p)
    return model


class _DroppedProduct(torch.autograd.Function):
    """``dropout(x) @ a.T`` for an ``x`` without gradient, a piece of ``x`` at a time.

    Of the dropped ``x`` only its mask is kept for the backward pass: a quarter of the memory, and a
    piece stays in the processor's cache from its random numbers to its product.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, a: torch.Tensor, p: float) -> torch.Tensor:
        pieces = x.flatten(0, -2).split(max(1, _CHUNK_ELEMENTS // x.shape[-1]))
        result, masks, scale = [], [], 1.0
        for piece in pieces:
            kept, scale = _keep(piece.shape, p)
            masks.append(kept)
            result.append((piece * kept) @ a.T)
        ctx.save_for_backward(x, *masks)
        ctx.scale = scale
        return torch.cat(result).mul_(scale).view(*x.shape[:-1], a.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, torch.Tensor, None]:
        x, *masks = ctx.saved_tensors
        size = masks[0].shape[0]
        # Under autocast the product, and so its gradient, is of another type.
        arriving = gradients[0].flatten(0, -2).to(x.dtype)
        pieces = zip(arriving.split(size), x.flatten(0, -2).split(size), masks, strict=True)
        total = x.new_zeros(arriving.shape[-1], x.shape[-1])
        for gradient, piece, kept in pieces:
            total.addmm_(gradient.T, piece * kept)
        return None, total.mul_(ctx.scale), None


def dropped_product(x: torch.Tensor, a: torch.Tensor, dropout: torch.nn.Module) -> torch.Tensor:
    """``dropout(x) @ a.T``, the first half of a LoRA layer.

    Args:
        x: ``(..., width)``, a constant: no gradient reaches it.
        a: ``(rank, width)``.
        dropout: with :class:`QuickDropout` on the CPU the random numbers are those that the module
            would draw, and results agree to rounding.
    """
    p = getattr(dropout, "p", 0.0)
    quick = isinstance(dropout, QuickDropout) and dropout.training and round(p * _LEVELS)
    if quick and x.device.type == "cpu" and not x.requires_grad:
        product: torch.Tensor = _DroppedProduct.apply(x, a, p)  # type: ignore[no-untyped-call]
        return product
    return torch.nn.functional.linear(dropout(x), a)
