#!/usr/bin/env python
"""Where a training step spends its time: torch's profiler, the operations that cost most.

    python benchmarks/profile_step.py

One step of 64 (`base`: 16) easy-VQA questions with cached features, one thread for `tiny`, else all cores. A title's
time is that of a step without the profiler.
"""

from __future__ import annotations

import tempfile
import time

import torch
from torch.profiler import ProfilerActivity, profile

from common import Table, main, model_folder
from fedumm.config import CentralConfig
from fedumm.training.backbone import load_backbone
from fedumm.training.data import load_splits
from fedumm.training.feature_cache import cache_features
from fedumm.training.threads import cores

BATCH = {"tiny": 64, "mid": 64, "base": 16}
SHOWN = 6


def profile_size(size: str, folder: str) -> Table:
    torch.set_num_threads(1 if size == "tiny" else cores())
    config = CentralConfig(
        model_backend="blip_vqa", model_name_or_path=model_folder(size), dataset="easy_vqa",
        max_train_samples=BATCH[size], max_eval_samples=8, feature_cache="memory", feature_cache_dir=folder,
    )  # fmt: skip
    backbone = load_backbone(config, torch.device("cpu"))
    data = backbone.backend.build_dataset(load_splits(config).train, backbone.processor, 64, 16)
    cache_features(backbone, [data], config, lambda *_: None)
    batch = backbone.backend.collate_fn([data[i] for i in range(BATCH[size])])
    backbone.model.train()

    def step() -> float:
        start = time.perf_counter()
        backbone.train_step(batch).backward()
        return time.perf_counter() - start

    step()
    wall = min(step() for _ in range(3)) * 1000
    with profile(activities=[ProfilerActivity.CPU]) as found:
        step()
    events = sorted(found.key_averages(), key=lambda event: -event.self_cpu_time_total)
    rows = [[e.key, str(e.count), f"{e.self_cpu_time_total / 1000:.1f}"] for e in events[:SHOWN]]
    counted = sum(event.count for event in events)
    total = sum(event.self_cpu_time_total for event in events) / 1000
    rows.append(["all operations, with the profiler's own cost", str(counted), f"{total:.1f}"])
    return Table(f"{size}: one step of {BATCH[size]}, {wall:.1f} ms", ["operation", "calls", "ms"], rows)


def run() -> list[Table]:
    with tempfile.TemporaryDirectory() as folder:
        return [profile_size(size, folder) for size in BATCH]


if __name__ == "__main__":
    main("profile_step", __doc__, run)
