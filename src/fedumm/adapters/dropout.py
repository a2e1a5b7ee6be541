"""Dropout on the input of LoRA layers, with few random numbers."""

from __future__ import annotations

from typing import TypeVar

import torch
from peft.tuners.lora import LoraLayer

_LEVELS = 2**16
Model = TypeVar("Model", bound=torch.nn.Module)


class QuickDropout(torch.nn.Dropout):
    """Dropout (Srivastava et al., 2014) that draws 16 random bits an element on the CPU.

    PyTorch's own draws a double for each, which shows in the training step of a small model. The
    probability is rounded to a multiple of 2^-16, and what
    remains is scaled by the rounded one, so the expectation stays exact. On a GPU nothing changes.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``input`` with elements dropped at random, in training only."""
        dropped = round(self.p * _LEVELS)
        if not self.training or not dropped or input.device.type != "cpu":
            return super().forward(input)
        draws = torch.empty(-(-input.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = draws.view(torch.int16)[: input.numel()].view(input.shape)
        kept = (bits >= dropped - _LEVELS // 2).to(input.dtype)
        return input * kept.mul_(_LEVELS / (_LEVELS - dropped))


def quicken_dropout(model: Model) -> Model:
    """Replace the dropout of all LoRA layers in ``model``; returns it."""
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name, dropout in module.lora_dropout.items():
                if isinstance(dropout, torch.nn.Dropout):
                    module.lora_dropout[name] = QuickDropout(dropout.p)
    return model
