"""``fedumm train`` leaves a run folder: records, figure, TensorBoard events, and what is finished is not replaced."""

from __future__ import annotations

import json
import signal
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
from fedumm.stopping import StoppedError
from fedumm.training import centralized

MODEL = ["--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--dataset", "easy_vqa", "--gpu", "cpu"]
SMALL = ["--max_train_samples", "16", "--max_eval_samples", "6", "--lora_r", "2"]
FEW = [*SMALL, "--report_samples", "off", "--num_epochs", "2"]


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("central")
    assert main(["train", *MODEL, *SMALL, "--num_epochs", "2", "--output_dir", str(folder)]) == 0
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


def test_a_run_ends_with_its_report(finished: Path) -> None:
    """With example answers, since the model is small: of the untrained adapter and of the trained one."""
    page = (finished / "report.html").read_text()
    assert page.count('<article class="example') == 6
    examples = [json.loads(line) for line in (finished / "samples.jsonl").read_text().splitlines()]
    end = records(finished)[-1]
    for key, name in (("score_before", "untrained"), ("score_after", "trained")):
        assert sum(one[key] for one in examples) / 6 == pytest.approx(end[name]["test"])


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
    assert not {"report.html", "samples.jsonl", "samples"} & {file.name for file in finished.iterdir()}, (
        "of the old run"
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_stopped_in_its_report_is_finished(
    number: int, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> list[str]:
        raise StoppedError(number)

    monkeypatch.setattr("fedumm.report.page.making.report_at_end", stopped)
    assert main(["train", *MODEL, *FEW, "--output_dir", str(tmp_path)]) == status
    assert f"The run is finished, without its report: fedumm report {tmp_path}\n" in capsys.readouterr().err
    assert records(tmp_path)[-1]["event"] == "summary"


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
    assert main(["train", *MODEL, *SMALL, *still, "--output_dir", str(tmp_path / "run")]) == 0
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


HELD = [*MODEL, *FEW[:-2], "--num_epochs", "4", "--holdout", "0.3"]


def test_held_out_rows_are_not_trained_on_and_decide_when_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Better and better on the evaluation data, and never on what is held out: that is what ``--patience`` sees."""
    from fedumm.metrics.evaluation import Evaluation

    seen: dict[str, list[Any]] = {"train": [], "scoring": [], "scoring held-out rows": []}
    real = centralized.train_epochs

    def train_epochs(backbone: Any, dataset: Any, *rest: Any, **named: Any) -> Any:
        seen["train"].append(dataset)
        return real(backbone, dataset, *rest, **named)

    def evaluate(backbone: Any, dataset: Any, config: Any, progress: Any, what: str = "scoring") -> Any:
        seen[what].append(dataset)
        score = 0.1 * len(seen[what]) if what == "scoring" else 0.5
        return {"vqa": Evaluation(score, len(dataset), {})}

    monkeypatch.setattr(centralized, "train_epochs", train_epochs)
    monkeypatch.setattr(centralized, "evaluate", evaluate)
    assert main(["train", *HELD, "--patience", "2", "--output_dir", str(tmp_path / "run")]) == 0
    told = capsys.readouterr().out
    assert "--patience goes by the held-out rows" in told
    setup, *epochs, end = records(tmp_path / "run")
    assert [r["heldout"] for r in epochs] == [0.5] * 3, "two epochs were no better than the untrained adapter"
    assert (end["epochs"], end["trained"]["heldout"], end["trained"]["test"]) == (2, 0.5, pytest.approx(0.3))
    assert setup["train"] + setup["heldout"] == 16
    assert 0 < setup["heldout"] == len(seen["scoring held-out rows"][0])
    assert setup["train"] == len(seen["train"][0])
    assert "| Accuracy on held-out rows | 50.00 % |" in (tmp_path / "run" / "adapter" / "README.md").read_text()


def test_without_holdout_it_is_said_that_the_evaluation_data_decide(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *MODEL, *FEW, "--patience", "1", "--output_dir", str(tmp_path / "run")]) == 0
    assert "--holdout 0.1 sets training rows aside" in " ".join(capsys.readouterr().out.split())
    assert not any("heldout" in r for r in records(tmp_path / "run") if r["event"] == "epoch")


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
