"""The toy backend with LoRA: a frozen random network of layers that are all wider or taller than square."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel

from fedumm.adapters.lora import with_lora
from fedumm.backends import register_backend
from support.toy_backend import ANSWERS, WORDS, ToyBackend, ToyRows

LAYERS = {"first": (WORDS + 3, 24), "second": (24, 40), "answer": (40, len(ANSWERS))}
"""Name to (in, out)."""


class FrozenToy(torch.nn.Module):
    """``(batch, 67)`` features -> ``(batch, answers)`` logits."""

    def __init__(self) -> None:
        super().__init__()
        for name, (into, out) in LAYERS.items():
            self.add_module(name, torch.nn.Linear(into, out))
        self.requires_grad_(False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.answer(torch.tanh(self.second(torch.tanh(self.first(features)))))


def frozen_toy() -> FrozenToy:
    """The network as every host begins with it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FrozenToy()


class KeptRows(ToyRows):
    """Reads each row's picture once."""

    def __init__(self, rows: Any) -> None:
        super().__init__(rows)
        self._kept: dict[int, tuple[torch.Tensor, int]] = {}

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index not in self._kept:
            self._kept[index] = super().__getitem__(index)
        return self._kept[index]


class LoraToyBackend(ToyBackend):
    def build_model_and_processor(
        self, model_name_or_path: str, lora_r: int, lora_alpha: int, lora_dropout: float, device: torch.device
    ) -> tuple[PeftModel, None]:
        # The seed of the run draws A, as in the shipped backends.
        return with_lora(frozen_toy(), lora_r, lora_alpha, lora_dropout, "|".join(LAYERS)).to(device), None

    def build_dataset(self, hf_ds: Any, processor: None, max_q_len: int, max_a_len: int) -> KeptRows:
        return KeptRows(hf_ds)


register_backend("lora_toy", LoraToyBackend())
