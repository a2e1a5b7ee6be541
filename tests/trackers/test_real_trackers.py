"""MLflow's local store and Weights & Biases' offline files hold the numbers of metrics.jsonl, by the packages
themselves."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedumm.trackers.numbers import numbers_of, place_of

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
RECORDS: list[dict[str, Any]] = [
    {"event": "client", "round": 1, "client": "site-1", "train_loss": 0.5, "num_samples": 90, "reason": "secret"},
    {"event": "round", "round": 1, "heldout": 0.25, "train_loss": 0.75, "bytes_up": 12},
    {"event": "round", "round": 2, "heldout": 0.5, "train_loss": 0.625, "bytes_up": 12},
    {"event": "final", "round": 2, "heldout": 0.75, "test": 0.5},
]
EXPECTED = [
    (r["round"] + (r["event"] == "final"), name, value) for r in RECORDS for name, value in numbers_of(r).items()
]


def tracked(name: str, run: Path, **environment: str) -> None:
    """In a process of its own, which libraries fill with threads, and which may reach nothing."""
    (run / "steps").mkdir(parents=True)
    (run / "steps" / "site-1.jsonl").write_text('{"part": 1, "steps": [2, 4], "losses": [0.5, 0.25]}\n')
    program = f"""
import json, socket, sys
from pathlib import Path
connect = socket.socket.connect
def refused(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        print("CONNECTS", address, flush=True)
        raise OSError("no network")
    return connect(self, address)
socket.socket.connect = refused
from fedumm.trackers.tracking import Tracking
tracking = Tracking([{name!r}], Path({str(run)!r}), lambda text: sys.exit(text))
tracking.start({{"lr": 0.001, "dataset": "easy_vqa"}})
for record in json.loads({json.dumps(RECORDS)!r}):
    tracking.on_record(record)
tracking.finish()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, cwd=run, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "CONNECTS" not in done.stdout


def test_mlflow_has_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("mlflow", "alembic"):
        pytest.importorskip(package, reason="pip install -e '.[mlflow]'")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracked("mlflow", tmp_path / "run", MLFLOW_TRACKING_URI=uri)
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("fedumm")
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("run", "FINISHED")
    assert found.data.params == {"lr": "0.001", "dataset": "easy_vqa"}
    assert set(found.data.tags) == {"mlflow.runName"}, "nothing of this machine"
    names = {name for _, name, _ in EXPECTED} | {"steps/site-1/loss"}
    history = {(m.step, m.key, m.value) for name in names for m in client.get_metric_history(found.info.run_id, name)}
    assert history == {*EXPECTED, (2, "steps/site-1/loss", 0.5), (4, "steps/site-1/loss", 0.25)}


def test_weights_and_biases_has_the_run(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="pip install -e '.[wandb]'")
    tracked("wandb", tmp_path / "run", WANDB_MODE="offline", WANDB_DIR=str(tmp_path))
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    history, config = [], {}
    for record in logged(file):
        if record.WhichOneof("record_type") == "run":
            assert (record.run.display_name, record.run.project) == ("run", "fedumm")
            assert record.run.host == "-", "nothing of this machine"
            config = {item.key: item.value_json for item in record.run.config.update}
        if record.WhichOneof("record_type") == "history":
            items = {i.key or "/".join(i.nested_key): float(i.value_json) for i in record.history.item}
            history.append({key: value for key, value in items.items() if not key.startswith("_")})
    assert (config["lr"], config["dataset"]) == ("0.001", '"easy_vqa"')
    expected = [{"round": place_of(r), **numbers_of(r)} for r in RECORDS]
    assert [own for own in history if "round" in own] == expected
    assert [own for own in history if "step" in own] == [
        {"step": 2, "steps/site-1/loss": 0.5}, {"step": 4, "steps/site-1/loss": 0.25},
    ]  # fmt: skip


def logged(file: Path) -> Iterator[Any]:
    """The records of an offline run: LevelDB's log format (blocks of 32 KiB) after a head of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    content, place, parts = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        parts, place = parts + content[place + 7 : place + 7 + length], place + 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""
