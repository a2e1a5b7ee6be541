#!/usr/bin/env python
"""Ranking given answers, against generating one.

    python benchmarks/answers.py

Milliseconds a question on 200 test questions of easy-VQA with `tiny`, features in memory, one torch thread, the fastest
of two in turns: greedy generation, and the likeliest of easy-VQA's 13 answers. Then as many candidates as people rank
in VQA v2 (made-up texts of several tokens), of which the 128 with the likeliest first tokens are ranked.
"""

from __future__ import annotations

import time
from itertools import product
from typing import Any

import torch

from common import Table, main
from fedumm.backends.answers import AnswerOptions
from fedumm.config import CentralConfig
from fedumm.data import DataRequest, load_data
from fedumm.training.backbone import Backbone, load_backbone
from fedumm.training.evaluation import evaluate
from fedumm.training.feature_cache import cache_features

ROWS = 200
MANY = 3128
CONFIGS = {
    "blip_vqa": CentralConfig(model_backend="blip_vqa", model_name_or_path="tiny", feature_cache="memory"),
    "januspro": CentralConfig(model_backend="januspro", model_name_or_path="tiny", feature_cache="memory"),
}


def seconds(backbone: Backbone, backend: Any, data: Any, config: CentralConfig) -> float:
    backbone.backend = backend
    start = time.perf_counter()
    evaluate(backbone, data, config)
    return time.perf_counter() - start


def measure(name: str, config: CentralConfig) -> list[list[str]]:
    backbone = load_backbone(config, torch.device("cpu"))
    generating: Any = backbone.backend
    request = DataRequest(columns=tuple(generating.keep_columns()), max_train_samples=8)
    asked = load_data("easy_vqa", request).eval
    rows = asked.select(range(ROWS))
    data = generating.build_dataset(rows, backbone.processor, config.max_q_len, config.max_a_len)
    cache_features(backbone, [data], config, lambda *_: None)
    answers = tuple(sorted(set(asked["multiple_choice_answer"][:])))
    many = tuple(f"{a} {b} {i}" for i, (a, b) in enumerate(product(answers * 16, answers * 16)))[:MANY]
    found: dict[int, float] = {}
    for _ in range(2):
        for candidates in ((), answers, many):
            chosen = AnswerOptions(rank=bool(candidates), candidates=candidates)
            took = seconds(backbone, generating.for_answers(chosen), data, config)
            found[len(candidates)] = min(found.get(len(candidates), took), took)
    return [
        [name, f"rank {count:,}" if count else "generate", f"{1000 * took / ROWS:.1f}", f"{took / found[0]:.1f}"]
        for count, took in found.items()
    ]


def run() -> list[Table]:
    torch.set_num_threads(1)
    rows = [row for name, config in CONFIGS.items() for row in measure(name, config)]
    columns = ["model", "answers", "ms a question", "times generation"]
    return [Table("Milliseconds a question", columns, rows)]


if __name__ == "__main__":
    main("answers", __doc__, run)
