#!/usr/bin/env python
"""Memory by clients and hosts: the peak of the proportional set size, summed over all processes of a run.

    python benchmarks/memory.py

`tiny` on 1,280 questions, and `base` (random weights, 1.45 GB) on 32, whole commands with one round. Features are
cached before, so that the tower is not at work.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from common import Table, federate, main, measure, model_folder

COLUMNS = ["model", "runner", "hosts", "clients", "processes", "peak MB", "relative to the first of its kind"]
RUNS = [
    ("tiny", "in_process", 1, 1, 1280),
    ("tiny", "in_process", 1, 4, 1280),
    ("tiny", "in_process", 1, 16, 1280),
    ("tiny", "simulator", 1, 1, 1280),
    ("tiny", "simulator", 1, 16, 1280),
    ("tiny", "simulator", 2, 16, 1280),
    ("base", "in_process", 1, 1, 32),
    ("base", "in_process", 1, 4, 32),
    ("base", "simulator", 1, 4, 32),
    ("base", "simulator", 2, 4, 32),
]


def run() -> list[Table]:
    rows = []
    first: dict[tuple[str, str], int] = {}
    with tempfile.TemporaryDirectory() as name:
        for number, (size, runner, hosts, clients, samples) in enumerate(RUNS):
            options = {
                "model_backend": "blip_vqa", "model_name_or_path": model_folder(size), "dataset": "easy_vqa",
                "num_rounds": 1, "max_train_samples": samples, "max_eval_samples": 8, "batch_size": 8,
                "grad_accum": 1, "threads": 1, "num_clients": clients, "hosts": hosts, runner: True,
            }  # fmt: skip
            if (size, runner) not in first:
                measure(federate(Path(name) / f"warm-{number}", **options))
            found = measure(federate(Path(name) / str(number), **options))
            base = first.setdefault((size, runner), found.peak_bytes)
            rows.append(
                [
                    size, runner, str(hosts), str(clients), str(found.processes), f"{found.peak_bytes / 1e6:.0f}",
                    f"{found.peak_bytes / base:.2f}",
                ]
            )  # fmt: skip
    return [Table("Peak memory", COLUMNS, rows)]


if __name__ == "__main__":
    main("memory", __doc__, run)
