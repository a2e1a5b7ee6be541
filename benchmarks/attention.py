#!/usr/bin/env python
"""Attention to the image from the query side, against the library's, by length of the question.

    python benchmarks/attention.py

Milliseconds per sample, all cores, random image features and questions of one length, answers of two tokens: a
training step (forward and backward pass, LoRA with dropout 0.1) and a generated answer. The fastest of two, in turns.
"auto" is what `QuerySideAttention` chooses by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from common import SIZES, Table, main, model_folder
from fedumm.backends.blip_vqa import model as blip
from fedumm.backends.blip_vqa.attention import QuerySideAttention
from fedumm.config import CentralConfig
from fedumm.training.backbone import load_backbone
from fedumm.training.threads import cores

BATCH = {"mid": 32, "base": 8}


class Always(QuerySideAttention):
    """Whether it pays or not."""

    def _pays(self, hidden_states: torch.Tensor, x: torch.Tensor) -> bool:
        return True


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure_length(size: str, model: Any, length: int) -> list[str]:
    batch = BATCH[size]
    generator = torch.Generator().manual_seed(0)
    tokens = (SIZES[size]["image"] // 16) ** 2 + 1
    x = torch.randn(batch, tokens, SIZES[size]["width"], generator=generator)
    ids = torch.randint(7, 170, (batch, length), generator=generator)
    mask, answers = torch.ones_like(ids), torch.randint(7, 170, (batch, 2), generator=generator)

    def step() -> None:
        model.train()
        blip.answer_loss(model, x, ids, mask, answers, answers).backward()
        model.zero_grad()

    def answer() -> None:
        model.eval()
        blip.generate_answers(model, x, ids, mask, 2)

    found: dict[tuple[type, str], float] = {}
    layers = model.get_base_model().text_encoder.encoder.layer
    attention = layers[0].crossattention.self
    ours = type(attention)
    library = ours.__mro__[2]
    always = type("Always", (Always, library), {})
    for _ in range(2):
        for kind in (library, always):
            for layer in layers:
                layer.crossattention.self.__class__ = kind
            for work in (step, answer):
                key = (kind, work.__name__)
                found[key] = min(found.get(key, float("inf")), seconds(work) / batch * 1000)
    attention.__class__ = ours
    hidden = x.new_empty(batch, length, SIZES[size]["width"])
    with torch.no_grad():
        answering = attention._pays(hidden, x)
    cells = [size, str(length)]
    for name, pays in (("step", attention._pays(hidden, x)), ("answer", answering)):
        theirs, query = found[library, name], found[always, name]
        cells += [f"{theirs:.0f}", f"{query:.0f}", f"{theirs / query:.2f}", "query" if pays else "library"]
    return cells


def run() -> list[Table]:
    torch.set_num_threads(cores())
    rows = []
    for size in BATCH:
        config = CentralConfig(model_backend="blip_vqa", model_name_or_path=model_folder(size))
        model = load_backbone(config, torch.device("cpu")).model
        rows += [measure_length(size, model, length) for length in (8, 16, 32, 64)]
    columns = ["model", "question tokens", *(f"{kind} {name}" for kind in ("step:", "answer:")
               for name in ("library", "query side", "ratio", "auto"))]  # fmt: skip
    return [Table("Milliseconds per sample", columns, rows)]


if __name__ == "__main__":
    main("attention", __doc__, run)
