#!/usr/bin/env python
"""What cached features and attention from the query side gain, by size of the model.

    python benchmarks/cache.py

Seconds per epoch of training on easy-VQA questions (eight to an image), all cores, `--batch_size 8 --grad_accum 8`
(the defaults), the fastest of two epochs (`base`: of one where the tower is at work):

- plain: batches of 8, the tower in each, the library's attention, questions padded to 64 tokens;
- no cache: fedumm with `--feature_cache off` (it runs the 8 batches of a step as one);
- first: computing the features, then training on them;
- later: training on them.

What keeping features in other types changes: `benchmarks/cache_types.py`.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from common import Table, main, model_folder
from fedumm.backends.blip_vqa.attention import QuerySideAttention, attend_from_the_query_side
from fedumm.config import CentralConfig
from fedumm.training.backbone import Backbone, load_backbone
from fedumm.training.data import load_splits
from fedumm.training.feature_cache import cache_features
from fedumm.training.threads import cores
from fedumm.training.trainer import optimizer_for, train_epochs

SAMPLES = {"tiny": (2048, 2), "mid": (128, 2), "base": (16, 1)}
PADDED = 64
CPU = torch.device("cpu")


def config_of(size: str, folder: Path) -> CentralConfig:
    samples, _ = SAMPLES[size]
    return CentralConfig(
        model_backend="blip_vqa", model_name_or_path=model_folder(size), dataset="easy_vqa", max_train_samples=samples,
        max_eval_samples=8, feature_cache="disk", feature_cache_dir=str(folder),
        threads=cores(),
    )  # fmt: skip


def plain_epoch(backbone: Backbone, data: Any, config: CentralConfig) -> float:
    """The loop that one would write first."""
    for module in backbone.model.modules():
        if isinstance(module, QuerySideAttention):
            module.__class__ = type(module).__mro__[2]  # the library's
    optimizer = optimizer_for(backbone, config)
    backbone.model.train()
    loader = DataLoader(data, config.batch_size, shuffle=True, collate_fn=backbone.backend.collate_fn)
    start = time.monotonic()
    for number, batch in enumerate(loader, start=1):
        for name in ("input_ids", "attention_mask"):
            batch[name] = torch.nn.functional.pad(batch[name], (0, PADDED - batch[name].shape[1]))
        (backbone.train_step(batch) / config.grad_accum).backward()
        if number % config.grad_accum == 0 or number == len(loader):
            optimizer.step()
            optimizer.zero_grad()
    seconds = time.monotonic() - start
    backbone.model.eval()
    attend_from_the_query_side(backbone.model.get_base_model())  # type: ignore[operator]
    return seconds


def measure_size(size: str, folder: Path) -> list[str]:
    config, repeats = config_of(size, folder), SAMPLES[size][1]
    torch.set_num_threads(cores())
    rows = load_splits(config).train
    backbone = load_backbone(config, CPU)
    data = backbone.backend.build_dataset(rows, backbone.processor, 64, 16)
    plain = min(plain_epoch(backbone, data, config) for _ in range(repeats))
    uncached = min(train_epochs(backbone, data, config, 1, 0).seconds for _ in range(repeats))
    start = time.monotonic()
    (report,) = cache_features(backbone, [data], config, lambda *_: None)
    encoding = time.monotonic() - start
    later = min(train_epochs(backbone, data, config, 1, 0).seconds for _ in range(max(2, repeats)))
    return [
        size, f"{len(rows)} on {report.images}", f"{plain:.2f}", f"{uncached:.2f}", f"{encoding + later:.2f}",
        f"{later:.2f}", f"{uncached / later:.1f}", f"{plain / later:.1f}", f"{report.bytes / report.images:,.0f}",
    ]  # fmt: skip


def run() -> list[Table]:
    with tempfile.TemporaryDirectory() as name:
        rows = [measure_size(size, Path(name) / size) for size in SAMPLES]
    columns = ["model", "questions on images", "plain s", "no cache s", "first s", "later s", "no cache / later",
               "plain / later", "bytes per image"]  # fmt: skip
    return [Table("Seconds per epoch", columns, rows)]


if __name__ == "__main__":
    main("cache", __doc__, run)
