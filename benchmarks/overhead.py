#!/usr/bin/env python
"""Federated training against centralised training on the same samples.

    python benchmarks/overhead.py

The shipped `tiny` on 4,500 questions of easy-VQA, 3 rounds of one epoch, batches of 32, one torch thread, one host,
features cached before. "Centralised" trains the union of the clients' rows for as many epochs, and scores the same
held-out and test rows as often: all clients' together, where federation has to score each client's own adapter. Times
are those of the last two rounds or epochs, "train" without the scoring; what FLARE takes before and after all rounds is
in the last column. In process and centralised are the faster of two runs, taken in turns; FLARE is one run. The
training of equal samples ("ratio, train") shows the machine's own noise.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from common import Table, federate, main, measure, records
from fedumm.config import FederateConfig
from fedumm.federation.assignment import client_names
from fedumm.federation.runners.in_process import run_in_process
from fedumm.report.run_folder import RunFolder, create
from fedumm.training.backbone import load_backbone
from fedumm.training.data import load_splits, partition_for
from fedumm.training.dataset_pool import DatasetPool
from fedumm.training.evaluation import evaluate
from fedumm.training.feature_cache import cache_features
from fedumm.training.trainer import train_epochs

ROUNDS = 3
COUNTED = 2
OPTIONS: dict[str, Any] = {
    "model_backend": "blip_vqa",
    "model_name_or_path": "tiny",
    "dataset": "easy_vqa",
    "max_train_samples": 4500,
    "max_eval_samples": 512,
    "batch_size": 32,
    "grad_accum": 1,
    "num_rounds": ROUNDS,
    "hosts": 1,
    "threads": 1,
}


def centralised(clients: int) -> tuple[float, float]:
    """Seconds of training and scoring, and of training alone, without set-up."""
    config = FederateConfig(**OPTIONS, num_clients=clients)
    torch.set_num_threads(1)
    splits = load_splits(config)
    shares, _ = partition_for(config, splits.train, client_names(clients))
    backbone = load_backbone(config, torch.device("cpu"))
    pool = DatasetPool(backbone, splits.train, config, range(len(splits.train)))
    test = DatasetPool(backbone, splits.eval, config, range(len(splits.eval)))
    cache_features(backbone, [pool.whole, test.whole], config, lambda *_: None)
    train = pool.part([row for share in shares.shares.values() for row in share.train.tolist()])
    heldout = pool.part([row for share in shares.shares.values() for row in share.heldout.tolist()])
    start, training = time.monotonic(), 0.0
    for epoch in range(COUNTED):
        evaluate(backbone, test.whole, config)
        evaluate(backbone, heldout, config)
        training += train_epochs(backbone, train, config, 1, seed=epoch).seconds
        evaluate(backbone, heldout, config)
    return time.monotonic() - start, training


def in_process(clients: int, folder: Path) -> tuple[float, float]:
    """Seconds of the counted rounds, and of the clients' training in them."""
    config = FederateConfig(**OPTIONS, num_clients=clients, in_process=True)
    create(folder, config, "benchmark").release()
    run_in_process(config, RunFolder(folder, config), lambda *_: None)
    training = [r["seconds_train"] for r in records(folder, "client") if r["round"] > ROUNDS - COUNTED]
    return sum(record["seconds"] for record in records(folder, "round")[-COUNTED:]), sum(training)


def through_flare(clients: int, folder: Path) -> tuple[float, float, float]:
    """Seconds of the counted rounds; of start and end; and of a round beyond the host's own work."""
    measured = measure(federate(folder, **OPTIONS, num_clients=clients, simulator=True))
    rounds = records(folder, "round")
    counted = sum(record["seconds"] for record in rounds[-COUNTED:])
    final = records(folder, "summary")[0]["seconds"] - rounds[-1]["elapsed"]
    fixed = measured.seconds - sum(record["seconds"] for record in rounds) - final
    beyond = [record["seconds"] - record["seconds_host"] for record in rounds[-COUNTED:]]
    return counted, fixed, sum(beyond) / len(beyond)


def run() -> list[Table]:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        in_process(1, Path(name) / "warm")  # fills the cache, and imports what there is to import
        for clients in (1, 2, 4, 8, 16):
            found: list[tuple[float, ...]] = []
            for repeat in range(2):
                inside = in_process(clients, Path(name) / f"{clients}-{repeat}")
                found.append((*centralised(clients), *inside))
            central, central_train, inside_all, inside_train = map(min, zip(*found, strict=True))
            flare, fixed, beyond = through_flare(clients, Path(name) / f"{clients}-flare")
            rows.append(
                [
                    str(clients), f"{central:.1f}", f"{inside_all:.1f}", f"{inside_all / central:.2f}",
                    f"{inside_train / central_train:.2f}", f"{flare:.1f}", f"{flare / central:.2f}", f"{beyond:.2f}",
                    f"{fixed:.1f}",
                ]
            )  # fmt: skip
    columns = [
        "clients", "centralised s", "in process s", "ratio", "ratio, train", "FLARE s", "ratio",
        "FLARE s per round beyond the host", "FLARE start and end s",
    ]  # fmt: skip
    return [Table("Federated against centralised", columns, rows)]


if __name__ == "__main__":
    main("overhead", __doc__, run)
