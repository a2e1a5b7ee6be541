#!/usr/bin/env python
"""Janus-Pro-1B's architecture with random weights: loading, a training step of each task, an answer, an image.

    python benchmarks/janus_pro_1b.py

Writes a checkpoint in the native layout with the real sizes (2,076,636,811 parameters, 384 x 384 images, 576 tokens an
image) and random bfloat16 weights to a temporary folder (4.2 GB) and uses it as `--model_name_or_path`. The tokenizer
is the small one of `tiny`, with Janus's special tokens. On a CPU the weights become float32. Memory is the process's
largest resident set so far; on a CPU that is what counts. (The times kept in `results` were taken at the lowest
priority, while the tests ran.)
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from common import ROOT, Table, main
from fedumm.config import CentralConfig
from fedumm.data import read_image
from fedumm.training.backbone import load_backbone
from fedumm.training.data import load_splits
from fedumm.training.device import pick_device
from fedumm.training.trainer import train_epochs

sys.path.insert(0, str(ROOT / "scripts"))
from make_random_checkpoint import make

SAMPLES = 2


class Watch:
    """Seconds and memory, step after step."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []

    def time(self, what: str, work: Callable[[], Any]) -> Any:
        """Do ``work`` and note what it took."""
        start = time.monotonic()
        result = work()
        seconds = time.monotonic() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30
        if torch.cuda.is_available():
            peak = torch.cuda.max_memory_allocated() / 2**30
        self.rows.append([what, f"{seconds:.1f}", f"{peak:.1f}"])
        print(*self.rows[-1], flush=True)
        return result


def run() -> list[Table]:
    watch = Watch()
    with tempfile.TemporaryDirectory() as name:
        make("janus-pro-1b", Path(name), torch.bfloat16, 0)
        config = CentralConfig(
            model_backend="januspro", model_name_or_path=name, dataset="shapes", task="unified", task_mix="1:1",
            max_train_samples=2 * SAMPLES, max_eval_samples=2, batch_size=SAMPLES, grad_accum=1, feature_cache="off",
        )  # fmt: skip
        device = pick_device("")
        rows = load_splits(config).train
        backbone = watch.time("load", lambda: load_backbone(config, device))
        backend: Any = backbone.backend
        data = backend.build_dataset(rows, backbone.processor, 64, 16)
        for task, text in (("vqa", "answers"), ("t2i", "images")):
            part = data.subset([i for i, own in enumerate(data.tasks) if own == task])
            result = watch.time(f"a step of {SAMPLES} {text}", partial(train_epochs, backbone, part, config, 1, 0))
            print("  loss", result.losses, flush=True)
        answer = watch.time(
            "an answer",
            lambda: backend.answer(backbone.model, backbone.processor, read_image(rows, 0), "what is it?", device),
        )
        print("  answer:", repr(answer), flush=True)
        (image,) = watch.time(
            "an image", lambda: backend.draw(backbone.model, backbone.processor, ["a red circle"], [0], device)
        )
        print("  image:", image.size, flush=True)
        title = f"{backbone.trainable:,} of {backbone.total:,} parameters trained, {device}, {backbone.dtype}"
    return [Table(title, ["what", "seconds", "GiB"], watch.rows)]


if __name__ == "__main__":
    main("janus_pro_1b", __doc__, run)
