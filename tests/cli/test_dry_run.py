"""``--dry_run`` tells what the run itself then does and sends, and writes nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fedumm.cli.dry_run import work_of
from fedumm.cli.main import run
from fedumm.config import CentralConfig, FederateConfig
from fedumm.report.run_folder import read_records
from fedumm.training.data import load_splits

DATA = ["--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--dataset", "easy_vqa"]
FEW = ["--max_train_samples", "300", "--max_eval_samples", "40"]
SPLIT = ["--num_clients", "3", "--num_rounds", "2", "--local_epochs", "2", "--dirichlet_alpha", "0.5"]


def count(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, text
    return float(found[1].replace(",", ""))


@pytest.mark.parametrize("wire", ["float32", "int8"])
def test_it_tells_what_the_run_then_does(wire: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [*DATA, *FEW, *SPLIT, "--wire", wire, "--in_process", "--name", str(tmp_path / "run")]
    assert run("federate", [*given, "--dry_run"], "fedumm federate") == 0
    told = capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert run("federate", given, "fedumm federate") == 0
    records = list(read_records(tmp_path / "run"))
    (setup,) = [r for r in records if r["event"] == "setup"]
    rounds = [r for r in records if r["event"] == "round"]
    assert count(r"\(([\d,]+) steps", told) == sum(r["steps"] for r in records if r["event"] == "client")
    assert count(r"down, ([\d.]+) MB up", told) == pytest.approx(rounds[0]["bytes_up"] / 1e6, abs=0.006)
    assert count(r"a round: ([\d.]+) MB down", told) == pytest.approx(
        rounds[1]["bytes_down"] / 1e6, rel=0.02, abs=0.006
    )
    assert count(r"trainable: ([\d,]+) /", told) == setup["trainable"]
    scored = sum(r["heldout_before_tasks"]["vqa"]["count"] + r["heldout_after_tasks"]["vqa"]["count"] for r in rounds)
    last = next(r for r in records if r["event"] == "final")
    scored += last["heldout_tasks"]["vqa"]["count"] + 3 * last["test_tasks"]["vqa"]["count"]
    assert count(r"([\d,]+) samples scored \d", told) == scored
    assert "Dry run: nothing was written" in told


def test_of_the_baseline_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [*DATA, *FEW, "--num_epochs", "3", "--output_dir", str(tmp_path / "run"), "--dry_run"]
    assert run("train", given, "fedumm train") == 0
    told = capsys.readouterr().out
    assert "15 steps" in told, "3 epochs of 5 steps: 300 samples, 64 a step"
    assert "160 samples scored" in told, "40 before and after each epoch"
    assert not list(tmp_path.iterdir())


def test_clients_that_run_out_of_time_do_as_many_steps_as_fit(capsys: pytest.CaptureFixture[str]) -> None:
    """No step is as short as 60 microseconds, so there is room for one of each client's."""
    given = [*DATA, *FEW, *SPLIT, "--dry_run", "--in_process"]
    assert run("federate", [*given, "--round_minutes", "0.000001"], "fedumm federate") == 0
    told = capsys.readouterr().out
    assert "--round_minutes 1e-06 has room for 1 steps: 3 of 3 clients are cut, the largest of them from" in told
    assert "(6 steps" in told, "one step of each of three clients in each of two rounds"
    assert run("federate", [*given, "--round_minutes", "1000"], "fedumm federate") == 0
    assert "no client is cut" in capsys.readouterr().out


def test_clients_that_are_drawn_count_only_then() -> None:
    options: dict[str, Any] = {"model_backend": "blip_vqa", "dataset": "easy_vqa", "max_train_samples": 640}
    config = FederateConfig(**options, max_eval_samples=10, num_clients=8, clients_per_round=2, num_rounds=4, hosts=1)
    splits = {"": load_splits(config)}
    whole = work_of(FederateConfig(**options, max_eval_samples=10, num_clients=8, num_rounds=4, hosts=1), splits)
    assert work_of(config, splits).steps == whole.steps / 4
    assert work_of(CentralConfig(**options), splits).steps == 10


def test_what_a_run_would_stop_at_stops_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("federate", [*DATA, *FEW, "--num_clients", "5000", "--dry_run"], "fedumm federate") == 2
    assert "clients" in capsys.readouterr().err


def test_so_does_a_run_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = {"federate": "--name", "train": "--output_dir"}
    for command, flag in where.items():
        folder = tmp_path / command
        (folder / "adapter").mkdir(parents=True)
        (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"")
        (folder / "config.yaml").write_text(
            f"# Repeat this run: x\nmodel_backend: blip_vqa\n{'num_epochs: 1' if command == 'train' else ''}\n"
        )
        (folder / "metrics.jsonl").write_text('{"event": "summary"}\n')
        given = [*DATA, *FEW, flag, str(folder), "--dry_run"]
        assert run(command, given, f"fedumm {command}") == 2
        assert "--overwrite" in capsys.readouterr().err
    assert run("train", [*given, "--overwrite"], "fedumm train") == 0
