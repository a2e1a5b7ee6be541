#!/usr/bin/env python
"""On a GPU: the tests marked `gpu`, then speed, memory and what federation costs.

    python benchmarks/gpu_check.py

Without a GPU it says so and ends with status 2; a failed test ends it with status 1, before anything is measured. The
models have random weights: `base` is the architecture of blip-vqa-base at 384 px, the other is Janus-Pro-1B's. "% of
the matrix rate": floating-point operations of training, as PyTorch counts them, a second, against those of a product of
two square matrices of the same type on the same card. An epoch before the timed one warms up. Memory is the most
that PyTorch reserved. K clients train in one process, one after the other, on the rows on which "central" trains.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from common import ROOT, Table, main, model_folder, run_once
from fedumm.backends.weights import WeightOptions, check_weights
from fedumm.config import CentralConfig, FederateConfig
from fedumm.errors import FedummError
from fedumm.training.backbone import Backbone, load_backbone
from fedumm.training.batching import epoch_steps
from fedumm.training.data import load_splits
from fedumm.training.device import pick_device, release, synchronize
from fedumm.training.feature_cache import cache_features
from fedumm.training.loading import loader
from fedumm.training.trainer import merging, train_epochs

sys.path.insert(0, str(ROOT / "scripts"))
from make_random_checkpoint import make

SIDE = 8192
"""Of the matrices whose product is timed."""

BLIP: dict[str, Any] = {"model_backend": "blip_vqa", "dataset": "shapes", "max_eval_samples": 64}


def matrix_rate(device: torch.device, dtype: torch.dtype, side: int, repeats: int = 20) -> float:
    """Floating-point operations a second in a product of two square matrices; the fastest of three rounds."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(4):  # the first one warms up
        synchronize(device)
        start = time.perf_counter()
        for _ in range(repeats):
            left @ right
        synchronize(device)
        best = max(best, repeats * 2 * side**3 / (time.perf_counter() - start))
    return best


def reserved(device: torch.device) -> float:
    """GiB that PyTorch reserved at most since :func:`fresh`; 0 on a CPU."""
    return torch.cuda.max_memory_reserved(device) / 2**30 if device.type == "cuda" else 0.0


def fresh(device: torch.device) -> None:
    """What is no longer used is given back, and the peak is that of now."""
    release()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def operations(backbone: Backbone, data: Any, config: CentralConfig) -> float:
    """Floating-point operations a sample of training, forward and backward."""
    (first, *_), *_ = epoch_steps(data, config, merging(backbone, config), 0)
    (batch,) = loader(backbone, data, [first], config)
    with FlopCounterMode(display=False) as counter:
        backbone.train_step(batch).backward()
    backbone.model.zero_grad(set_to_none=True)
    return float(counter.get_total_flops()) / len(first.rows)


def training(device: torch.device, what: str, rates: dict[torch.dtype, float], **options: Any) -> list[str]:
    """A row: samples a second, share of the matrix rate, memory."""
    fresh(device)
    config = CentralConfig(**options)
    backbone = load_backbone(config, device)
    data = backbone.backend.build_dataset(load_splits(config).train, backbone.processor, 64, 16)
    cache_features(backbone, [data], config, lambda *_: None)
    flops = operations(backbone, data, config)
    train_epochs(backbone, data, config, 1, 0)
    fresh(device)
    synchronize(device)
    seconds = train_epochs(backbone, data, config, 1, 1).seconds
    synchronize(device)
    embeddings = next(p for p in backbone.model.parameters() if p.is_floating_point() and not p.requires_grad)
    kind = backbone.dtype if embeddings.dtype == torch.float32 else embeddings.dtype
    per_second = len(data) / seconds
    share = per_second * flops / rates[kind]
    limits = ", ".join(f"{most} at a time" for most in backbone.limits.values())
    return [what, str(kind).removeprefix("torch."), f"{per_second:.1f}", f"{flops / 1e9:.3g}", f"{100 * share:.3g}",
            f"{reserved(device):.2f}", limits or "-"]  # fmt: skip


def speed(device: torch.device, blip: str, janus: str, samples: int, side: int = SIDE) -> list[Table]:
    """Training of both models in several ways."""
    rates = {dtype: matrix_rate(device, dtype, side) for dtype in (torch.float32, torch.bfloat16)}
    given = {**BLIP, "model_name_or_path": blip, "max_train_samples": samples}
    cached = {"feature_cache": "memory", "feature_cache_gb": 64.0}
    ways: dict[str, dict[str, Any]] = {
        "base, cached, merged": cached,
        "base, cached, 8 at a time": {**cached, "merge_batches": "off"},
        "base, not cached": {"feature_cache": "off"},
        "base, cached, float32": {**cached, "precision": "float32"},
    }
    rows = [training(device, what, rates, **given, **options) for what, options in ways.items()]
    given |= {"model_backend": "januspro", "model_name_or_path": janus, "max_train_samples": max(16, samples // 8)}
    ways = {
        "Janus, answers": {"feature_cache": "off"},
        "Janus, answers, checkpointed": {"feature_cache": "off", "gradient_checkpointing": True},
        "Janus, images": {"feature_cache": "off", "task": "t2i"},
        "Janus, answers, 4 bits": {"feature_cache": "off", "load_in_4bit": True},
    }
    for what, options in ways.items():
        try:
            check_weights(WeightOptions(load_in_4bit=options.get("load_in_4bit", False)), device)
        except FedummError as error:
            print(f"{what}: left out. {error}", flush=True)
            continue
        rows.append(training(device, what, rates, **given, **options))
    columns = [
        "training",
        "arithmetic",
        "samples a second",
        "GFLOP a sample",
        "% of the matrix rate",
        "GiB",
        "halved to",
    ]
    rated = [[str(d).removeprefix("torch."), f"{rate / 1e12:.1f}"] for d, rate in rates.items()]
    return [
        Table(f"A product of two matrices of {side} x {side}", ["type", "TFLOP a second"], rated),
        Table(f"Training steps, {samples} questions (Janus: an eighth)", columns, rows),
    ]


def federation(device: torch.device, blip: str, samples: int, clients: tuple[int, ...] = (1, 2, 4, 8)) -> Table:
    """One round with K clients against an epoch on all rows, and the memory of both."""
    gpu = "cpu" if device.type == "cpu" else str(device.index)
    given = {**BLIP, "model_name_or_path": blip, "max_train_samples": samples, "feature_cache": "memory", "gpu": gpu,
             "feature_cache_gb": 64.0}  # fmt: skip
    rows = []
    for count in clients:
        fresh(device)
        found = run_once(FederateConfig(**given, num_clients=count, num_rounds=2, in_process=True))
        memory = reserved(device)
        own = [record for record in found if record["event"] == "client" and record["round"] == 2]
        trained, seconds = sum(record["num_samples"] for record in own), sum(record["seconds_train"] for record in own)
        whole = [record for record in found if record["event"] == "round"][1]["seconds"]
        central = _central(device, CentralConfig(**{**given, "max_train_samples": trained}))
        rows.append([str(count), str(trained), f"{central:.2f}", f"{seconds:.2f}", f"{seconds / central:.2f}",
                     f"{whole:.2f}", f"{memory:.2f}"])  # fmt: skip
    columns = ["K", "rows trained on", "central s", "K clients s", "ratio", "whole round s", "GiB"]
    return Table("The second round of K clients against an epoch of central training, `base`, cached", columns, rows)


def _central(device: torch.device, config: CentralConfig) -> float:
    """Seconds of the second epoch."""
    fresh(device)
    backbone = load_backbone(config, device)
    data = backbone.backend.build_dataset(load_splits(config).train, backbone.processor, 64, 16)
    cache_features(backbone, [data], config, lambda *_: None)
    train_epochs(backbone, data, config, 1, 0)
    return train_epochs(backbone, data, config, 1, 1).seconds


def run(samples: int = 1024) -> list[Table]:
    device = pick_device("0")
    with tempfile.TemporaryDirectory() as folder:
        make("janus-pro-1b", Path(folder), torch.bfloat16, 0)
        tables = speed(device, model_folder("base"), folder, samples)
    return [*tables, federation(device, model_folder("base"), samples)]


def check() -> int:
    """The status to end with."""
    if not torch.cuda.is_available():
        print("There is no GPU with CUDA here, so nothing was checked.", file=sys.stderr)
        return 2
    if subprocess.run([sys.executable, "-m", "pytest", "-m", "gpu", "-rs", "tests/gpu"], cwd=ROOT).returncode:
        return 1
    main("gpu_check", __doc__, run)
    return 0


if __name__ == "__main__":
    sys.exit(check())
