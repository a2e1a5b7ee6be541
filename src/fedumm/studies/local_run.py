"""A run without an exchange in a run folder: each client alone, one record for each."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from fedumm.config import FederateConfig
from fedumm.data.partition.split import ClientShare
from fedumm.federation.assignment import client_names
from fedumm.libraries import installed_versions
from fedumm.report.console import RunConsole
from fedumm.report.partition_file import save_partition
from fedumm.report.run_folder import METRICS, REPORT, RunFolder, create, lock_run, read_records
from fedumm.run_events import PartitionEvent
from fedumm.step_losses import STEPS, StepLosses, points_of_a_part
from fedumm.training.backbone import Backbone
from fedumm.training.candidates import training_answers
from fedumm.training.data import client_facts, partition_for, references
from fedumm.training.dataset_pool import DatasetPool
from fedumm.training.device import pick_device
from fedumm.training.feature_cache import cache_features
from fedumm.training.local_only import ClientData, epochs_of, score_untrained, spread_over_clients, train_alone
from fedumm.training.stock import Stock
from fedumm.training.threads import thread_count


def is_finished(path: Path) -> bool:
    """Whether all clients of the run in ``path`` are done.

    Raises:
        FedummError: its records are damaged.
    """
    return any(record["event"] == "summary" for record in _records(path))


def run_local_only(config: FederateConfig, path: Path, command: str, console: RunConsole, stock: Stock) -> None:
    """Let each client train alone, from the split, the adapter and the seed of the federated run with these options.

    A run that was cut goes on with the first client that has no record.

    Raises:
        FedummError: bad data or model, the folder is in use, or a loss is no longer a number.
    """
    splits, report = stock.checked(config, console.progress)
    partition, labels = partition_for(config, splits.train, client_names(config.num_clients))
    done = {record["client"]: record for record in _records(path) if record["event"] == "local"}
    lock = lock_run(path) if done else create(path, replace(config, overwrite=True), command)
    try:
        if done:
            _end_whole(path / METRICS)
            (path / REPORT).unlink(missing_ok=True)
        report.save(path)
        clients = client_facts(config, partition, splits.train, labels)
        save_partition(path, config, PartitionEvent(partition.method, partition.fingerprint, clients))
        folder = RunFolder(path, config, console.show)
        _Run(config, folder, console, stock, partition.shares).carry_out(done)
    finally:
        lock.release()


class _Run:
    """One such run, on a locked folder."""

    def __init__(
        self,
        config: FederateConfig,
        folder: RunFolder,
        console: RunConsole,
        stock: Stock,
        shares: Mapping[str, ClientShare],
    ) -> None:
        self.config, self.folder, self.console, self.stock, self.shares = config, folder, console, stock, shares
        self._begun = time.monotonic()

    def carry_out(self, done: dict[str, dict[str, Any]]) -> None:
        config, progress = self.config, self.console.progress
        torch.set_num_threads(thread_count(config))
        splits = self.stock.splits(config)
        candidates, texts = training_answers(config, splits.train), references(config, splits.eval)
        backbone = self.stock.backbone(config, pick_device(config.gpu), candidates, texts)
        first = backbone.adapter()
        pool = DatasetPool(backbone, splits.train, config, _rows(self.shares.values()))
        tests = DatasetPool(backbone, splits.eval, config, range(len(splits.eval)))
        features = self._features(backbone, pool, tests)
        test = tests.part(range(len(splits.eval)))
        if not done:
            self._tell_setup(backbone, len(splits.eval), features)
        for client, share in self.shares.items():
            if client in done:
                continue
            begun = time.monotonic()
            data = ClientData(pool.part(share.train.tolist()), pool.part(share.heldout.tolist()), test)
            losses = StepLosses(self.folder.path / STEPS / f"{client}.jsonl", points_of_a_part(epochs_of(config)))
            record = train_alone(backbone, first, client, data, config, progress, losses)
            done[client] = record | {"seconds": round(time.monotonic() - begun, 3)}
            self.folder.on_record(done[client])
        untrained = score_untrained(backbone, first, test, config, progress)
        records = [done[client] for client in self.shares]
        over = {name: spread_over_clients(records, name) for name in ("test", "heldout")}
        self.folder.on_record({
            "event": "summary", "roster": len(self.shares), "untrained": untrained, "local_only": over,
            "seconds": round(time.monotonic() - self._begun, 3),
        })  # fmt: skip

    def _features(self, backbone: Backbone, *pools: DatasetPool) -> list[dict[str, Any]]:
        whole = [pool.whole for pool in pools if pool.whole is not None]
        passes = [float(epochs_of(self.config)), 1.0 + len(self.shares)][: len(whole)]
        names = ["training", "evaluation"][: len(whole)]
        reports = cache_features(backbone, whole, self.config, self.console.progress, names, passes)
        return [asdict(report) for report in reports]

    def _tell_setup(self, backbone: Backbone, tests: int, features: list[dict[str, Any]]) -> None:
        self.folder.on_record({
            "event": "setup", "local_only": True, "epochs": epochs_of(self.config),
            "clients": {n: {"train": len(s.train), "heldout": len(s.heldout)} for n, s in self.shares.items()},
            "test_samples": tests, "trainable": backbone.trainable, "total": backbone.total,
            "device": str(backbone.device), "versions": installed_versions(), "features": features,
            "seconds": round(time.monotonic() - self._begun, 3),
        })  # fmt: skip


def _rows(shares: Iterable[ClientShare]) -> list[int]:
    return sorted(row for share in shares for row in (*share.train.tolist(), *share.heldout.tolist()))


def _records(path: Path) -> list[dict[str, Any]]:
    return list(read_records(path)) if (path / METRICS).is_file() else []


def _end_whole(path: Path) -> None:
    """Cut off a last line that a crash left unfinished."""
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        with open(path, "r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
