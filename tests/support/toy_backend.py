"""A backend of a user's own: the protocol's methods only, and a model that has nothing to do with BLIP.

It answers from the words of the question and the picture's mean colour, by one trainable layer
behind a frozen random projection. Loaded with ``--plugin``.
"""

from __future__ import annotations

import os
import sys
import time
import zlib
from typing import Any

import numpy as np
import torch

from fedumm.backends import register_backend

ANSWERS = [
    "yes", "no", "1", "2", "3", "4", "circle", "rectangle", "square", "triangle", "cross", "red", "green",
    "blue", "yellow", "black", "gray", "brown", "teal", "orange", "purple",
]  # fmt: skip
WORDS, WIDTH = 64, 32


class Toy(torch.nn.Module):
    """``(batch, 67)`` features -> ``(batch, answers)`` logits; only ``answer`` is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = torch.nn.Linear(WORDS + 3, WIDTH).requires_grad_(False)
        self.dropout = torch.nn.Dropout(0.2)
        self.answer = torch.nn.Linear(WIDTH, len(ANSWERS))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.answer(self.dropout(torch.tanh(self.frozen(features))))


class ToyRows(torch.utils.data.Dataset):
    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        row = self.rows[index]
        features = torch.zeros(WORDS + 3)
        for word in row["question"].rstrip("?").split():
            features[zlib.crc32(word.encode()) % WORDS] += 1
        features[WORDS:] = torch.from_numpy(np.asarray(row["image"]).mean((0, 1)) / 255)
        return features, ANSWERS.index(row["multiple_choice_answer"])


class ToyBackend:
    def build_model_and_processor(
        self, model_name_or_path: str, lora_r: int, lora_alpha: int, lora_dropout: float, device: torch.device
    ) -> tuple[torch.nn.Module, None]:
        if log := os.environ.get("TOY_BUILDS"):
            with open(log, "a") as file:
                file.write(f"{os.getpid()} {' '.join(sys.argv)}\n")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Toy().to(device), None

    def build_dataset(self, hf_ds: Any, processor: None, max_q_len: int, max_a_len: int) -> ToyRows:
        return ToyRows(hf_ds)

    def collate_fn(self, batch: list[tuple[torch.Tensor, int]]) -> dict[str, torch.Tensor]:
        return {"x": torch.stack([x for x, _ in batch]), "y": torch.tensor([y for _, y in batch])}

    def train_step(self, model: torch.nn.Module, batch: dict[str, torch.Tensor], device: torch.device) -> torch.Tensor:
        if seconds := os.environ.get("TOY_STEP_SECONDS"):
            time.sleep(float(seconds))
        return torch.nn.functional.cross_entropy(model(batch["x"].to(device)), batch["y"].to(device))

    def evaluate(self, model: torch.nn.Module, dataloader: Any, processor: None, device: torch.device) -> float:
        with torch.inference_mode():
            hits = [h for b in dataloader for h in (model(b["x"].to(device)).argmax(-1).cpu() == b["y"]).tolist()]
        return sum(hits) / len(hits)

    def hf_dataset_name(self) -> str:
        return "shapes"

    def hf_train_split(self) -> str:
        return "train"

    def hf_eval_split(self) -> str:
        return "validation[:50%]"

    def keep_columns(self) -> list[str]:
        return ["image", "question", "multiple_choice_answer"]


register_backend("toy", ToyBackend())
