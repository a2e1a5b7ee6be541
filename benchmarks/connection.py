#!/usr/bin/env python
"""A round over real connections: server and two sites as processes of their own, mutual TLS, an exported job.

    python benchmarks/connection.py

`job.py --export_dir`, then NVIDIA FLARE's proof-of-concept deployment on this machine: provisioning, `nvflare job
submit`, `nvflare job download`. `tiny`, 2 sites, 6 rounds. The server's seconds of a round against the slower site's,
and the difference: the mean of all rounds but the first.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from common import Table, federate, main, records
from poc import Deployment

OPTIONS: dict[str, Any] = {
    "model_backend": "blip_vqa", "model_name_or_path": "tiny", "dataset": "easy_vqa", "num_clients": 2,
    "num_rounds": 6, "max_train_samples": 512, "max_eval_samples": 64, "threads": 1,
}  # fmt: skip


def run() -> list[Table]:
    with tempfile.TemporaryDirectory() as name:
        jobs = Path(name) / "jobs"
        subprocess.run(federate(Path("connection"), **OPTIONS, export_dir=jobs), check=True)
        with Deployment(Path(name), OPTIONS["num_clients"]) as deployment:
            rounds = records(deployment.run(jobs / "connection"), "round")[1:]
    server, site = (sum(record[key] for record in rounds) / len(rounds) for key in ("seconds", "seconds_host"))
    row = [str(len(rounds)), f"{server:.2f}", f"{site:.2f}", f"{server - site:.2f}"]
    return [Table("A warm round", ["rounds", "server s", "slower site s", "beyond s"], [row])]


if __name__ == "__main__":
    main("connection", __doc__, run)
