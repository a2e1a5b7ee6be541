#!/usr/bin/env python
"""Many clients, 16 of them in a round.

    python benchmarks/scale.py

`tiny`, 36 questions of easy-VQA to a client, 4 rounds, one host and one thread, features cached before. Seconds per
client-round are the host's in the last three rounds, scoring of 64 test questions and by the panel (all 16 clients, or
64 of more) included, divided by the 16; memory is the peak of all processes, and of FLARE's server process.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from common import Table, federate, main, measure, records

SAMPLED = 16
EACH = 36


def measure_clients(clients: int, folder: Path) -> list[str]:
    options: dict[str, Any] = {
        "model_backend": "blip_vqa", "model_name_or_path": "tiny", "dataset": "easy_vqa", "num_rounds": 4,
        "max_train_samples": EACH * clients, "max_eval_samples": 64, "batch_size": 8, "grad_accum": 1, "threads": 1,
        "num_clients": clients, "clients_per_round": SAMPLED, "hosts": 1,
    }  # fmt: skip
    measure(federate(folder / "warm", **{**options, "num_rounds": 1}, in_process=True))
    cells = [str(clients)]
    for runner in ("in_process", "simulator"):
        found = [measure(federate(folder / f"{runner}{repeat}", **options, **{runner: True})) for repeat in range(2)]
        rounds = [records(folder / f"{runner}{repeat}", "round")[1:] for repeat in range(2)]
        seconds = min(sum(r["seconds_host"] for r in own) / len(own) for own in rounds) / SAMPLED
        (setup,) = records(folder / f"{runner}0", "setup")
        cells += [f"{seconds:.3f}", f"{setup['seconds']:.1f}", f"{min(m.peak_bytes for m in found) / 1e6:.0f}"]
        if runner == "simulator":
            cells.append(f"{min(m.server_bytes for m in found) / 1e6:.0f}")
    return cells


def run() -> list[Table]:
    with tempfile.TemporaryDirectory() as name:
        rows = [measure_clients(clients, Path(name) / str(clients)) for clients in (16, 100, 1000)]
    columns = [
        "clients", "in process: s per client-round", "set-up s", "peak MB", "FLARE: s per client-round", "set-up s",
        "peak MB", "server MB",
    ]  # fmt: skip
    return [Table("16 clients a round", columns, rows)]


if __name__ == "__main__":
    main("scale", __doc__, run)
