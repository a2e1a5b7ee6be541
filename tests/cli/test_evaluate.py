"""``fedumm evaluate``: the scores of a run, from a copy of its adapter's folder, and every answer in files."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import fedumm
from fedumm.adapters.folder import read_folder
from fedumm.cli.main import main
from fedumm.errors import FedummError
from fedumm.metrics import vqa_score

TINY = ["--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--gpu", "cpu"]
FEW = {"max_train_samples": 16, "max_eval_samples": 40, "dataset": "easy_vqa"}
EASY = [word for name, value in FEW.items() for word in (f"--{name}", str(value))]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def evaluate(*options: str) -> dict[str, Any]:
    """What is in the files."""
    assert main(["evaluate", *options, "--out", "scored"]) == 0
    return dict(json.loads(Path("scored/evaluation.json").read_text()))


def lines(folder: str = "scored") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(folder, "predictions.jsonl").read_text().splitlines()]


def test_a_copied_adapter_has_the_score_of_its_training(tmp_path: Path) -> None:
    model = {"model_backend": "blip_vqa", "model_name_or_path": "tiny", "lora_r": 2, "gpu": "cpu", "lr": 0.01}
    trained = fedumm.train(output_dir=tmp_path / "central", batch_size=4, grad_accum=1, **model, **FEW)
    copy = shutil.copytree(tmp_path / "central" / "adapter", tmp_path / "far" / "away")
    shutil.rmtree(tmp_path / "central")
    found = evaluate("--adapter", str(copy), "--gpu", "cpu", *EASY)
    assert found["tasks"]["vqa"]["score"] == pytest.approx(trained.after["vqa"].score, abs=1e-12)
    assert {t: own["score"] for t, own in found["tasks"]["vqa"]["answer_types"].items()} == pytest.approx(
        {name: score for name, (score, _) in trained.after["vqa"].parts.items()}
    )
    without = evaluate(*TINY, *EASY)
    assert without["score"] == pytest.approx(trained.before["vqa"].score, abs=1e-12)
    assert without["score"] != found["score"]


def test_every_answer_is_in_the_files_and_gives_the_scores(capsys: pytest.CaptureFixture[str]) -> None:
    found, rows = evaluate(*TINY, *EASY), lines()
    assert len(rows) == 40
    for row in rows:
        assert row["score"] == vqa_score(row["answer"], row["references"])
    assert found["score"] == pytest.approx(np.mean([row["score"] for row in rows]))
    low, high = found["interval"]
    assert low < found["score"] < high
    assert found["tasks"]["vqa"]["images"] == len({row["image_id"] for row in rows})
    for name, own in found["tasks"]["vqa"]["question_types"].items():
        scores = [row["score"] for row in rows if row["question_type"] == name]
        assert (own["score"], own["count"]) == (pytest.approx(np.mean(scores)), len(scores))
    assert pq.read_table("scored/predictions.parquet").to_pylist() == rows
    said = capsys.readouterr().out
    assert "bootstrap over" in said
    assert "whole images" in said
    table = found["tasks"]["vqa"]["confusion"]
    assert sum(map(sum, table["counts"])) == 40


def test_the_same_command_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for _ in range(2):
        assert main(["evaluate", *TINY, *EASY, "--json"]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1]


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Pictures with numbered questions, in two files."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for split, start in (("train", 0), ("test", 10)):
        with open(folder / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["image", "question", "answer", "question_id"])
            for number in range(start, start + 10):
                Image.new("RGB", (32, 32), (number * 10, 0, 0)).save(folder / f"{number}.png")
                table.writerow([f"{number}.png", "what color is the shape?", "red", 9000 + number])
    return folder


def test_the_official_format_has_each_question_once(scans: Path) -> None:
    evaluate(*TINY, "--dataset", str(scans), "--format", "vqa")
    results = json.loads(Path("scored/vqa_results.json").read_text())
    assert [one["question_id"] for one in results] == list(range(9010, 9020))
    assert [one["answer"] for one in results] == [row["answer"] for row in lines()]
    evaluate(*TINY, "--dataset", str(scans), "--split", "train")
    assert not Path("scored/vqa_results.json").exists(), "those were of other rows"
    assert [row["question_id"] for row in lines()] == [str(number) for number in range(9000, 9010)]


def test_all_rows_are_scored_in_their_order(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(*TINY, "--dataset", str(scans), "--split", "all")
    assert [row["question_id"] for row in lines()] == [str(number) for number in range(9000, 9020)]
    (scans / "train.csv").unlink()
    evaluate(*TINY, "--dataset", str(scans))
    assert len(lines()) == 1, "a tenth of the images of one split"
    assert "to score all of a test set, add --split all" in capsys.readouterr().err
    evaluate(*TINY, "--dataset", str(scans), "--split", "all")
    assert [row["source_row"] for row in lines()] == list(range(10))
    assert "--split all" not in capsys.readouterr().err


def test_a_run_is_told_from_its_adapter() -> None:
    best = Path("runs/one/adapter/best")
    best.mkdir(parents=True)
    (best / "adapter_model.safetensors").touch()
    for name in ("one", "runs/one"):
        with pytest.raises(FedummError, match=f"--adapter {best}"):
            read_folder(name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            [*TINY, *EASY, "--format", "vqa", "--out", "x"],
            "whole numbers in a column question_id, and 'test-0' is none",
        ),
        ([*TINY, *EASY, "--format", "vqa"], "say where with --out DIR"),
        (
            ["--model_backend", "januspro", *EASY, "--task", "t2i", "--format", "vqa", "--out", "x"],
            "not for --task t2i",
        ),
        (TINY, "required: --dataset"),
        (EASY, "Say which model to use"),
        ([*TINY, *EASY, "--eval_batch_size", "-1"], "--eval_batch_size must be 0 or more"),
        ([*TINY, *EASY, "--lr", "1"], "Unknown option '--lr'"),
        ([*TINY, *EASY, "--task", "t2i"], "can only answer"),
        ([*TINY, "--dataset", "nowhere"], "not a folder or a file"),
        (["--adapter", "nowhere", *EASY], "Adapter folder not found: nowhere"),
    ],
)
def test_a_mistake_is_one_clear_message_before_a_model_is_loaded(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedumm.cli.evaluate.with_adapter", lambda *_: pytest.fail("a model was loaded"))
    assert main(["evaluate", *options]) == 2
    assert said in capsys.readouterr().err.splitlines()[0]
    assert not Path("x").exists()


def test_questions_captions_and_drawings_of_one_model(capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model_backend", "januspro", "--model_name_or_path", "tiny", "--gpu", "cpu", "--dataset", "shapes"]
    few = ["--max_eval_samples", "18", "--max_train_samples", "2", "--geneval_prompts", "2"]
    Path("scored/drawings").mkdir(parents=True)
    for name in ("2024-holiday.png", "0001-right.png", "0001-wrong.png", "0007-right.png"):
        Path("scored/drawings", name).write_bytes(b"")
    found, rows = evaluate(*model, *few, "--task", "unified"), lines()
    losses = [row["loss"] for row in rows if row["task"] == "t2i"]
    assert found["tasks"]["t2i"]["loss"] == pytest.approx(np.mean(losses))
    assert found["score"] == pytest.approx(np.mean([found["tasks"][task]["score"] for task in ("vqa", "t2i")]))
    assert found["geneval"]["count"] == 2
    Path("scored/drawings/2024-holiday.png").unlink()
    assert {file.name[:5] for file in Path("scored/drawings").iterdir()} == {"0000-", "0001-"}
    assert len(list(Path("scored/drawings").glob("*.png"))) == 2, "what an earlier evaluation drew is gone"
    assert main(["evaluate", *TINY, *EASY, "--out", "scored"]) == 0
    assert len(list(Path("scored/drawings").glob("*.png"))) == 2, "of this one nothing is drawn"
    assert "nats" in capsys.readouterr().out


@pytest.mark.slow
def test_of_an_adapter_that_answers_and_draws_one_ability_can_be_scored(tmp_path: Path) -> None:
    model = {"model_backend": "januspro", "model_name_or_path": "tiny", "gpu": "cpu", "lora_targets": "all"}
    data = {"dataset": "shapes", "max_train_samples": 8, "max_eval_samples": 18, "geneval_prompts": 0}
    trained = fedumm.train(task="unified", output_dir=tmp_path / "central", **model, **data)
    few = ["--dataset", "shapes", "--max_train_samples", "2", "--max_eval_samples", "10", "--geneval_prompts", "0"]
    adapter = ["--adapter", str(tmp_path / "central" / "adapter"), "--gpu", "cpu"]
    assert evaluate(*adapter, *few, "--task", "vqa")["score"] == pytest.approx(trained.after["vqa"].score)
    whole = evaluate(*adapter, *few, "--max_eval_samples", "18")
    assert set(whole["tasks"]) == {"vqa", "t2i"}, "what it has learnt"
    assert main(["evaluate", *adapter, *few, "--task", "i2t"]) == 2
