#!/usr/bin/env python
"""Models at full size with random weights, federated: memory, bytes and seconds.

    python benchmarks/full_size.py

Writes each model's checkpoint (`scripts/make_random_checkpoint.py`, bfloat16, no download) to a temporary folder and
runs `fedumm federate` on it: 2 clients, 1 round, 8 questions of `shapes` on pictures of 64 x 64 pixels, batches of one,
`--lora_r 16`. On a CPU the weights become float32 and products are float32. Tokenizers are small ones: a text has a
token a byte. SmolVLM's pictures are not split into tiles (`do_image_splitting` in its `processor_config.json`): it
would make 13 of each, whatever its size. Memory is the peak of the proportional set size over all processes; "start" is
loading the model, trying what it can do, and encoding each image once; a step is a question there and back. Results of
models that are not named stay as they were. The machine had other work meanwhile: seconds are upper bounds.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from common import RESULTS, ROOT, Table, federate, main, measure, records

sys.path.insert(0, str(ROOT / "scripts"))
from make_random_checkpoint import make
from published_models import PUBLISHED

TITLE = "2 clients, 1 round"
COLUMNS = [
    "model", "parameters", "of them trained", "adapter bytes", "bytes down a round", "bytes up a round", "peak GB",
    "start, s", "training steps", "seconds a step", "command, s",
]  # fmt: skip
OPTIONS: dict[str, Any] = {
    "dataset": "shapes", "num_clients": 2, "num_rounds": 1, "local_epochs": 1, "max_train_samples": 8,
    "max_eval_samples": 2, "batch_size": 1, "grad_accum": 1, "lora_r": 16, "in_process": True, "hosts": 1,
    "feature_cache": "memory",
}  # fmt: skip


def federated(name: str, model: Path, backend: str) -> list[str]:
    """The row of one model."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        found = measure(federate(run, model_backend=backend, model_name_or_path=model, **OPTIONS))
        (setup,), (last,) = records(run, "setup"), records(run, "round")
        clients = [client for client in records(run, "client") if not client["rejected"]]
    steps = sum(client["steps"] for client in clients)
    seconds = sum(client["seconds_train"] for client in clients)
    return [
        name, f"{setup['total'] - setup['trainable']:,}", f"{setup['trainable']:,}", f"{setup['adapter_bytes']:,}",
        f"{last['bytes_down']:,}", f"{last['bytes_up']:,}", f"{found.peak_bytes / 1e9:.1f}", f"{setup['seconds']:.0f}",
        str(steps), f"{seconds / steps:.1f}", f"{found.seconds:.0f}",
    ]  # fmt: skip


def whole_pictures(model: Path) -> None:
    """Let a processor that would split pictures leave them whole."""
    file = model / "processor_config.json"
    settings = json.loads(file.read_text())
    if settings["image_processor"].get("do_image_splitting"):
        settings["image_processor"]["do_image_splitting"] = False
        file.write_text(json.dumps(settings, indent=1))


def kept() -> dict[str, list[str]]:
    """Rows of earlier runs, by model."""
    file = RESULTS / "full_size.json"
    if not file.exists():
        return {}
    (table,) = json.loads(file.read_text())["tables"]
    return {row[0]: row for row in table["rows"]} if list(table["columns"]) == COLUMNS else {}


def run(names: list[str]) -> list[Table]:
    rows = kept()
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / name
            make(name, model, torch.bfloat16, 0)
            whole_pictures(model)
            rows[name] = federated(name, model, PUBLISHED[name].backend)
            shutil.rmtree(model)
    return [Table(TITLE, COLUMNS, [rows[name] for name in PUBLISHED if name in rows])]


if __name__ == "__main__":
    main("full_size", __doc__, lambda: run(sys.argv[1:] or ["blip-vqa-base", "smolvlm-256m"]))
