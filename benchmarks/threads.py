#!/usr/bin/env python
"""What torch threads are worth: seconds per training step and per evaluated question, by thread count.

    python benchmarks/threads.py

Trains and evaluates the shipped ``tiny`` on easy-VQA with cached features, in turns, three times each,
and prints the fastest of the three; then once with another program on one of the cores.
"""

from __future__ import annotations

import subprocess
import sys
import time

import torch

from common import Table, main
from fedumm.config import CentralConfig
from fedumm.training.backbone import Backbone, load_backbone
from fedumm.training.data import load_splits
from fedumm.training.evaluation import evaluate
from fedumm.training.feature_cache import cache_features
from fedumm.training.threads import cores
from fedumm.training.trainer import train_epochs

CONFIG = CentralConfig(
    model_backend="blip_vqa",
    model_name_or_path="tiny",
    dataset="easy_vqa",
    max_train_samples=1280,
    max_eval_samples=1024,
)


def measure(backbone: Backbone, train: object, test: object, threads: int) -> tuple[float, float]:
    """Milliseconds per step of 64 and per question."""
    torch.set_num_threads(threads)
    steps = train_epochs(backbone, train, CONFIG, 1, seed=0)
    start = time.perf_counter()
    count = evaluate(backbone, test, CONFIG)["vqa"].count
    return 1000 * steps.seconds / steps.steps, 1000 * (time.perf_counter() - start) / count


def run() -> list[Table]:
    splits = load_splits(CONFIG)
    backbone = load_backbone(CONFIG, torch.device("cpu"))
    train, test = (
        backbone.backend.build_dataset(rows, backbone.processor, 64, 16) for rows in (splits.train, splits.eval)
    )
    cache_features(backbone, [train, test], CONFIG, lambda *_: None)
    counts = sorted({1, 2, cores()})
    results: dict[int, list[tuple[float, float]]] = {n: [] for n in counts}
    for _ in range(3):
        for n in counts:
            results[n].append(measure(backbone, train, test, n))
    best = {n: tuple(map(min, zip(*rows, strict=True))) for n, rows in results.items()}
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        shared = {n: measure(backbone, train, test, n)[0] for n in counts}
        other.kill()
    rows = []
    for n, (step, question) in best.items():
        relative, taken = step / best[1][0], shared[n] / best[1][0]
        rows.append([str(n), f"{step:.1f}", f"{question:.2f}", f"{relative:.2f}", f"{taken:.2f}"])
    columns = ["threads", "ms per step of 64", "ms per question", "step, relative to 1 thread", "one core taken"]
    return [Table("Torch threads", columns, rows)]


if __name__ == "__main__":
    main("threads", __doc__, run)
