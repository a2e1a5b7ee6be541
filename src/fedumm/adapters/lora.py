"""LoRA on a model's layers."""

from __future__ import annotations

import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from fedumm.adapters.dropout import quicken_dropout


def with_lora(model: torch.nn.Module, r: int, alpha: int, dropout: float, targets: str) -> PeftModel:
    """LoRA (Hu et al., 2021) on the layers whose full names match the pattern ``targets``; the rest is frozen."""
    config = LoraConfig(r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets)
    with warnings.catch_warnings():
        # PEFT asks transformers for a property by its old name.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        return quicken_dropout(get_peft_model(model, config))
