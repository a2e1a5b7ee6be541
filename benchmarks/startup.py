#!/usr/bin/env python
"""A small job from command to prompt: 8 clients, 2 rounds, 256 questions, batches of 16, `tiny`.

    python benchmarks/startup.py

Whole commands, the first run with an empty feature cache. "First step" is when a host first reports training;
"end" is from the last round's scores to the prompt.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from common import Table, federate, main, measure, records

OPTIONS: dict[str, Any] = {
    "model_backend": "blip_vqa", "model_name_or_path": "tiny", "dataset": "easy_vqa", "num_clients": 8,
    "num_rounds": 2, "max_train_samples": 256, "max_eval_samples": 64, "batch_size": 16, "grad_accum": 1,
}  # fmt: skip
RUNS: tuple[dict[str, Any], ...] = ({"in_process": True}, {"simulator": True, "hosts": 1}, {"simulator": True})
COLUMNS = ["runner", "cache", "seconds", "first step s", "end s", "peak MB", "processes"]


def one(folder: Path, cached: str, **options: Any) -> list[str]:
    first: list[float] = []
    last: list[float] = []

    def look(seconds: float) -> None:
        if not first and any("training" in text for text in _states(folder / "progress")):
            first.append(seconds)
        if not last and (folder / "metrics.jsonl").exists() and records(folder, "summary"):
            last.append(seconds)

    found = measure(federate(folder, **OPTIONS, **options), look)
    runner = "in process" if options.get("in_process") else f"FLARE, {options.get('hosts', 'default')} host(s)"
    return [
        runner, cached, f"{found.seconds:.1f}", f"{first[0]:.1f}" if first else "-",
        f"{found.seconds - last[0]:.1f}" if last else "-", f"{found.peak_bytes / 1e6:.0f}", str(found.processes),
    ]  # fmt: skip


def _states(folder: Path) -> list[str]:
    texts = []
    for file in folder.glob("*.json"):
        try:
            texts.append(json.loads(file.read_text())["text"])
        except (OSError, ValueError):
            continue
    return texts


def run() -> list[Table]:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        os.environ["FEDUMM_CACHE"] = name
        for number, options in enumerate(RUNS):
            rows.append(one(Path(name) / f"run{number}", "full" if number else "empty", **options))
            time.sleep(1)
    return [Table("A small job", COLUMNS, rows)]


if __name__ == "__main__":
    main("startup", __doc__, run)
