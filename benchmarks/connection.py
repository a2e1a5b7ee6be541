#!/usr/bin/env python
"""A round over real connections: server and two sites as processes of their own, mutual TLS.

    python benchmarks/connection.py

`fedumm poc`: a federation provisioned on this machine, the job submitted and its result fetched. `tiny`, 2 sites, 6
rounds. The server's seconds of a round against the slower site's, and the difference: the mean of all rounds but the
first.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from common import Table, main, records

OPTIONS = [
    "--model_backend=blip_vqa", "--model_name_or_path=tiny", "--dataset=easy_vqa", "--num_clients=2",
    "--num_rounds=6", "--max_train_samples=512", "--max_eval_samples=64", "--threads=1", "--report_samples=off",
]  # fmt: skip


def run() -> list[Table]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "run"
        subprocess.run([sys.executable, "-m", "fedumm", "poc", *OPTIONS, f"--name={path}"], check=True)
        rounds = records(path, "round")[1:]
    server, site = (sum(record[key] for record in rounds) / len(rounds) for key in ("seconds", "seconds_host"))
    row = [str(len(rounds)), f"{server:.2f}", f"{site:.2f}", f"{server - site:.2f}"]
    return [Table("A warm round", ["rounds", "server s", "slower site s", "beyond s"], [row])]


if __name__ == "__main__":
    main("connection", __doc__, run)
