#!/usr/bin/env python
"""Federated training against centralised training on the same samples.

    python benchmarks/overhead.py

The shipped `tiny` on 4,500 questions of easy-VQA, 2 rounds of one epoch, batches of 32, one torch thread, one host,
features cached before. "Centralised" trains the union of the clients' rows for as many epochs, and scores the same
held-out and test rows as often. Times are those of rounds and epochs; what comes before and after is in the last
column. Each is the faster of two runs, taken in turns.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import Table, federate, main, measure, records

from fedumm.config import FederateConfig
from fedumm.federation.in_process import run_in_process
from fedumm.federation.topology import client_names
from fedumm.report.run_folder import RunFolder, create
from fedumm.training.backbone import load_backbone
from fedumm.training.data import load_splits, partition_for
from fedumm.training.local import cache_features, evaluate, train_epochs
from fedumm.training.pool import DatasetPool

ROUNDS = 2
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


def centralised(clients: int) -> float:
    """Seconds of training and scoring, without set-up."""
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
    start = time.monotonic()
    for epoch in range(ROUNDS):
        evaluate(backbone, test.whole, config)
        evaluate(backbone, heldout, config)
        train_epochs(backbone, train, config, 1, seed=epoch)
        evaluate(backbone, heldout, config)
    return time.monotonic() - start


def in_process(clients: int, folder: Path) -> float:
    """Seconds of the rounds."""
    config = FederateConfig(**OPTIONS, num_clients=clients, in_process=True)
    create(folder, config, "benchmark").release()
    run_in_process(config, RunFolder(folder, config), lambda *_: None)
    return float(sum(record["seconds"] for record in records(folder, "round")))


def through_flare(clients: int, folder: Path) -> tuple[float, float, float]:
    """Seconds of the rounds; of start and end; and of a round beyond the host's own work."""
    measured = measure(federate(folder, **OPTIONS, num_clients=clients, simulator=True))
    rounds = records(folder, "round")
    seconds = sum(record["seconds"] for record in rounds)
    final = records(folder, "summary")[0]["seconds"] - rounds[-1]["elapsed"]
    beyond = [record["seconds"] - record["seconds_host"] for record in rounds]
    return seconds, measured.seconds - seconds - final, sum(beyond) / len(beyond)


def run() -> list[Table]:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        in_process(1, Path(name) / "warm")  # fills the cache, and imports what there is to import
        for clients in (1, 2, 4, 8, 16):
            times: list[tuple[float, float, tuple[float, float, float]]] = []
            for repeat in range(2):
                folder = Path(name) / f"{clients}-{repeat}"
                times.append(
                    (
                        centralised(clients),
                        in_process(clients, folder.with_suffix(".in")),
                        through_flare(clients, folder.with_suffix(".flare")),
                    )
                )
            central, inside = min(t[0] for t in times), min(t[1] for t in times)
            flare, fixed, beyond = (min(t[2][i] for t in times) for i in range(3))
            rows.append(
                [
                    str(clients), f"{central:.1f}", f"{inside:.1f}", f"{inside / central:.2f}", f"{flare:.1f}",
                    f"{flare / central:.2f}", f"{beyond:.2f}", f"{fixed:.1f}",
                ]
            )  # fmt: skip
    columns = [
        "clients",
        "centralised s",
        "in process s",
        "ratio",
        "FLARE s",
        "ratio",
        "FLARE s per round",
        "start and end s",
    ]
    return [Table("Federated against centralised", columns, rows)]


if __name__ == "__main__":
    main("overhead", __doc__, run)
