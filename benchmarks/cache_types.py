#!/usr/bin/env python
"""What the types of cached features change and take, what is weighed, and what a start with a full cache reads.

    python benchmarks/cache_types.py

First table: features kept in another type (`--feature_dtype`), against float32: the relative error of the features
(by their norm) and the relative change of the mean loss of an epoch from the same seed, on 256 easy-VQA questions with
the shipped `tiny`, and on 32 with the random `mid`.

Second table: what `--feature_cache auto` weighs above a gigabyte of features: what an image takes to encode on all
cores, its features to write to this disk (until they are there) and to read back from it, not from memory.

Third table: seconds to start with 500 image files of 150 kB whose features, 1 MB each, are on disk. "Everything"
reads all images and all features, as every start did before; "now" trusts files that have not changed, and looks at
features when they are asked for; "looking" is what that takes, once for each image in a run. In brackets: seconds
of the processor, which do not depend on what else runs.

Fourth table: an epoch of `tiny` on 512 questions, one torch thread on the CPU, with batches made when they are needed
and by a thread ahead (`training.prefetch`, which is used on GPUs): the fewest seconds of the processor of three each.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from common import Table, main, model_folder
from fedumm.backends.feature_table import FeatureTable
from fedumm.backends.protocol import FrozenStage
from fedumm.config import CentralConfig
from fedumm.features import cache
from fedumm.features.encode import Encoder
from fedumm.features.holdings import holdings, verify
from fedumm.features.images import DistinctImages
from fedumm.features.known_files import FILE
from fedumm.features.options import CacheOptions
from fedumm.features.rights import Rights
from fedumm.features.store import ShardStore
from fedumm.features.weigh import measure
from fedumm.training import trainer
from fedumm.training.backbone import load_backbone
from fedumm.training.data import load_splits
from fedumm.training.feature_cache import cache_features
from fedumm.training.loading import loader
from fedumm.training.prefetch import PrefetchLoader
from fedumm.training.threads import cores
from fedumm.training.trainer import train_epochs

CPU = torch.device("cpu")
QUESTIONS = {"tiny": 256, "mid": 32}
TYPES = ("float32", "bfloat16", "float16", "int8")
IMAGES, IMAGE_BYTES, SHAPE = 500, 150_000, (512, 512)


def config_of(size: str, folder: Path, samples: int) -> CentralConfig:
    return CentralConfig(
        model_backend="blip_vqa", model_name_or_path=model_folder(size), dataset="easy_vqa", max_train_samples=samples,
        max_eval_samples=8, feature_cache="disk", feature_cache_dir=str(folder), threads=cores(),
    )  # fmt: skip


def effect(size: str, folder: Path) -> list[list[str]]:
    measured = []
    for dtype in TYPES:
        config = replace(config_of(size, folder, QUESTIONS[size]), feature_dtype=dtype)
        backbone = load_backbone(config, CPU)
        data = backbone.backend.build_dataset(load_splits(config).train, backbone.processor, 64, 16)
        (report,) = cache_features(backbone, [data], config, lambda *_: None)
        features = torch.stack([data[row]["image_embeds"].float() for row in range(0, len(data), 8)])
        measured.append((report.bytes / report.images, features, train_epochs(backbone, data, config, 1, 0).loss))
    _, exact, loss = measured[0]
    return [
        [
            size, dtype, f"{size_of:,.0f}", f"{((own - exact).norm() / exact.norm()).item():.1e}",
            f"{abs(other - loss) / loss:.1e}",
        ]
        for dtype, (size_of, own, other) in zip(TYPES, measured, strict=True)
    ]  # fmt: skip


def weighed(size: str, folder: Path) -> list[str]:
    config = config_of(size, folder, 64)
    torch.set_num_threads(cores())
    backbone = load_backbone(config, CPU)
    data = backbone.backend.build_dataset(load_splits(config).train, backbone.processor, 64, 16)
    (stage,) = backbone.backend.frozen_stages(backbone.model, backbone.processor)  # type: ignore[attr-defined]
    encoder = Encoder(stage, torch.float32, CPU, DistinctImages([data], lambda *_: None), lambda *_: None)
    store = ShardStore(folder)
    store.create({})
    speed = measure(encoder, store)
    times = (f"{1000 * seconds:.3g}" for seconds in (speed.encode, speed.write, speed.read))
    return [size, f"{encoder.image_bytes() / 1e6:.3f}", *times]


class Files:
    """Rows that each show one file."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.rows = Dataset.from_dict({"image": list(map(str, paths))})
        self.features: FeatureTable | None = None

    def pixels(self, rows: Sequence[int]) -> Any:
        return torch.zeros(len(rows), 3, 8, 8)


class Watch:
    """Seconds since it was made: on the clock, and of the processor."""

    def __init__(self) -> None:
        self._begun = time.monotonic(), time.process_time()

    def read(self) -> str:
        clock, processor = self._begun
        return f"{time.monotonic() - clock:.2f} ({time.process_time() - processor:.2f})"


def start(top: Path) -> list[str]:
    files = [top / f"{number}.jpg" for number in range(IMAGES)]
    for file in files:
        file.write_bytes(os.urandom(IMAGE_BYTES))
    folder, module = top / "cache", torch.nn.Linear(1, 1)
    stage = FrozenStage("features", module, lambda pixels: torch.rand(len(pixels), *SHAPE), "{}")
    options = CacheOptions("disk", 0, folder)

    def run() -> Files:
        data = Files(files)
        assert cache.cache_features(stage, [data], options, CPU, lambda *_: None).kept == "disk"
        return data

    time.sleep(3)  # what has just been written is not trusted
    run()
    (folder / FILE).unlink()
    watch = Watch()
    run()
    assert not verify(folder, Rights(), holdings(folder, Rights())[0], lambda *_: None)
    everything = watch.read()
    watch = Watch()
    data = run()
    now = watch.read()
    watch = Watch()
    assert data.features is not None
    for row in range(IMAGES):
        data.features.of(row)
    return [f"{IMAGES:,}", everything, now, watch.read()]


def ahead(folder: Path) -> list[str]:
    torch.set_num_threads(1)
    config = replace(config_of("tiny", folder, 512), threads=1)
    backbone = load_backbone(config, CPU)
    data = backbone.backend.build_dataset(load_splits(config).train, backbone.processor, 64, 16)
    cache_features(backbone, [data], config, lambda *_: None)
    adapter, plain = backbone.adapter(), loader

    def threaded(backbone: Any, dataset: Any, batches: Any, _: Any) -> PrefetchLoader:
        rows = [batch.rows for batch in batches]
        return PrefetchLoader(dataset, device=CPU, batch_sampler=rows, collate_fn=backbone.backend.collate_fn)

    seconds: dict[Any, list[float]] = {plain: [], threaded: []}
    for _ in range(3):
        for make, own in seconds.items():
            trainer.loader = make  # type: ignore[attr-defined]
            backbone.put(adapter)
            begun = time.process_time()
            train_epochs(backbone, data, config, 1, 0)
            own.append(time.process_time() - begun)
    trainer.loader = plain  # type: ignore[attr-defined]
    return [f"{min(own):.2f}" for own in seconds.values()]


def run() -> list[Table]:
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        (top / "start").mkdir()
        started = start(top / "start")
        epochs = ahead(top / "ahead")
        changed = [row for size in QUESTIONS for row in effect(size, top / size)]
        speeds = [weighed(size, top / f"{size}-speed") for size in ("tiny", "mid", "base")]
    columns = ["model", "type", "bytes per image", "relative error of features", "relative change of the mean loss"]
    return [
        Table("Features in other types", columns, changed),
        Table("What is weighed, ms an image", ["model", "MB per image", "encode", "write", "read"], speeds),
        Table(
            "Seconds to start with everything on disk",
            ["images", "everything", "now", "looking"], [started],
        ),
        Table("Processor seconds of an epoch", ["when needed", "ahead"], [epochs]),
    ]  # fmt: skip


if __name__ == "__main__":
    main("cache_types", __doc__, run)
