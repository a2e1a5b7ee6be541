"""``fedumm train`` leaves a run folder: records, figure, TensorBoard events, and what is finished is not replaced."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedumm.cli.main import main
from fedumm.config import CentralConfig, FederateConfig, read_yaml
from fedumm.report.central_folder import CentralFolder
from fedumm.report.figures import save_epochs_figure
from fedumm.report.run_folder import create

MODEL = ["--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--dataset", "easy_vqa", "--gpu", "cpu"]
FEW = ["--max_train_samples", "16", "--max_eval_samples", "6", "--lora_r", "2", "--num_epochs", "2"]


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("central")
    assert main(["train", *MODEL, *FEW, "--output_dir", str(folder)]) == 0
    return folder


def test_each_epoch_is_recorded(finished: Path) -> None:
    setup, *epochs, end = records(finished)
    assert [r["event"] for r in (setup, end)] == ["setup", "summary"]
    assert (setup["train"], setup["test_samples"]) == (16, 6)
    assert [(r["event"], r["epoch"], r["epochs"]) for r in epochs] == [("epoch", n, 2) for n in range(3)]
    assert epochs[0]["train_loss"] is None
    assert 0 < epochs[2]["train_loss"] < epochs[1]["train_loss"]
    assert end["untrained"]["test_tasks"] == epochs[0]["test_tasks"]
    assert end["trained"]["test_tasks"] == epochs[2]["test_tasks"]
    assert end["trained"]["test_tasks"]["vqa"]["count"] == 6


def test_figure_and_events_hold_the_same_numbers(finished: Path, tmp_path: Path) -> None:
    table = save_epochs_figure(records(finished), tmp_path / "again.png")
    assert [x for x, _ in table["test/vqa"]] == [0, 1, 2]
    events = EventAccumulator(str(finished / "tensorboard")).Reload()
    losses = [(event.step, event.value) for event in events.Scalars("epoch/train_loss")]
    assert losses == [(x, pytest.approx(y)) for x, y in table["train_loss/vqa"]]
    assert (finished / "epochs.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_finished_is_replaced_only_if_asked(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.read_bytes() for file in finished.rglob("*") if file.is_file()}
    again = ["train", *MODEL, *FEW, "--lr", "0.01", "--output_dir", str(finished)]
    assert main(again) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in finished.rglob("*") if file.is_file()} == before
    (finished / "notes.txt").write_text("mine")
    assert main([*again, "--overwrite"]) == 0
    assert read_yaml(finished / "config.yaml")["lr"] == 0.01
    assert [r["event"] for r in records(finished)] == ["setup", "epoch", "epoch", "epoch", "summary"]
    assert (finished / "notes.txt").read_text() == "mine"


def test_a_run_that_was_cut_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedumm.training.centralized.train_epochs", lambda *_, **__: 1 / 0)
    command = ["train", *MODEL, *FEW, "--output_dir", str(tmp_path)]
    assert main(command) == 1
    assert [r["event"] for r in records(tmp_path)] == ["setup", "epoch"]
    monkeypatch.undo()
    assert main(command) == 0
    assert [r["event"] for r in records(tmp_path)] == ["setup", "epoch", "epoch", "epoch", "summary"]


def test_a_training_that_learns_nothing_more_may_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    still = ["--num_epochs", "6", "--lr", "1e-9", "--patience", "2"]
    assert main(["train", *MODEL, *FEW[:-2], *still, "--output_dir", str(tmp_path / "run")]) == 0
    told = capsys.readouterr().out
    assert "stopping: the last 2 epoch(s) were no better than the best one before (--patience)" in told
    assert "Nothing was better than the untrained adapter" in told
    assert [r["epoch"] for r in records(tmp_path / "run") if r["event"] == "epoch"] == [0, 1, 2]
    assert records(tmp_path / "run")[-1]["epochs"] == 2
    card = (tmp_path / "run" / "adapter" / "README.md").read_text()
    assert "| Epochs | 2 of 6 (patience 2), seed " in card
    assert "learning rate 1e-09," in card


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "tensorboard/events", "drawings/holiday.png", "epochs.png", "data.json"]
)
@pytest.mark.parametrize("more", [[], ["--overwrite"], ["--dry_run"]])
def test_files_of_others_are_never_replaced(
    name: str, more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    assert main(["train", *MODEL, *FEW, *more, "--output_dir", str(tmp_path)]) == 2
    assert f"holds {name.split('/')[0]}" in capsys.readouterr().err
    assert file.read_text() == "mine"


def test_drawings_of_the_run_before_are_replaced_too(tmp_path: Path) -> None:
    CentralFolder(tmp_path, CentralConfig(model_backend="blip_vqa"), "x", print)
    (tmp_path / "drawings" / "epoch-7").mkdir(parents=True)
    CentralFolder(tmp_path, CentralConfig(model_backend="blip_vqa"), "x", print)
    assert not (tmp_path / "drawings").exists()


@pytest.mark.parametrize("more", [[], ["--overwrite"], ["--dry_run"]])
def test_a_federated_run_that_has_just_begun_is_not_replaced(
    more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create(tmp_path / "run", FederateConfig(model_backend="blip_vqa"), "x").release()
    before = sorted(tmp_path.rglob("*"))
    assert main(["train", *MODEL, *FEW, *more, "--output_dir", str(tmp_path / "run")]) == 2
    assert "holds a federated run" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_digests_of_the_run_before_are_gone(tmp_path: Path) -> None:
    for name, text in (("plugin.py", "pass"), ("answers.txt", "red")):
        (tmp_path / name).write_text(text)
    run, plain = tmp_path / "run", CentralConfig(model_backend="blip_vqa")
    given = {"plugin": str(tmp_path / "plugin.py"), "answers": str(tmp_path / "answers.txt")}
    CentralFolder(run, replace(plain, **given), "x", print)
    assert len(list(run.glob("*.sha256"))) == 2
    CentralFolder(run, plain, "x", print)
    assert not list(run.glob("*.sha256"))
