"""``fedumm check``: what is shown, and what a run does with the same data."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedumm.cli.main import run

TINY = ["--model_backend", "blip_vqa", "--model_name_or_path", "tiny"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures, and a table of questions about them, as a newcomer has them."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "scans"
    data.mkdir()
    with open(data / "questions.csv", "w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["image", "question", "answer"])
        for number in range(40):
            Image.fromarray(np.full((16, 16, 3), number * 5, np.uint8)).save(data / f"{number}.png")
            lines.writerow([f"{number}.png", "is it bright?", "yes" if number > 20 else "no"])
            lines.writerow([f"{number}.png", "which kind?", "x-ray"])
    return data


def test_a_folder_of_pictures_and_a_table_is_shown_and_told_how_to_train(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("check", [str(folder), *TINY], "fedumm check") == 0
    out = capsys.readouterr().out
    assert "their files" in out
    assert "PNG RGB" in out
    assert "fedumm federate --model_backend blip_vqa --model_name_or_path tiny --dataset" in out


def test_the_same_folder_is_federated_with_one_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*TINY, "--dataset", str(folder), "--in_process", "--num_rounds", "1", "--name", "first"]
    before = sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())
    assert run("federate", command, "fedumm federate") == 0
    assert "Data: 72 training and 8 evaluation samples, on 36 and 4 images" in capsys.readouterr().out
    assert sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir()) == before
    assert json.loads(Path("runs/first/data.json").read_text())["train"]["images"] == 36


def test_findings_are_shown_with_a_model_that_can_write_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "questions.csv").write_text("image,findings\n0.png,no nodule\n0.png,clear\n1.png,a large nodule\n")
    assert run("check", [str(folder), "--task", "i2t"], "fedumm check") == 0
    out = capsys.readouterr().out
    assert "texts an image" in out
    assert "text is read from the column findings" in out
    assert "best possible score" not in out
    assert out.count("--model_backend januspro --model_name_or_path tiny") == 2, "to look more closely, and to train"


def test_json_is_all_that_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", [str(folder), "--json"], "fedumm check") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["train"]["images"], report["eval"]["images"]) == (36, 4)
    assert report["train"]["texts"] == [], "no model is named"


def test_bad_rows_leave_a_run_of_that_name_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*TINY, "--dataset", str(folder), "--in_process", "--num_rounds", "1", "--name", "kept"]
    assert run("federate", command, "fedumm federate") == 0
    kept = Path("runs/kept/metrics.jsonl").read_bytes()
    (folder / "7.png").write_bytes(b"no picture")
    (folder / "8.png").unlink()
    assert run("federate", [*command, "--overwrite"], "fedumm federate") == 2
    error = capsys.readouterr().err
    assert "4 of 80 rows can't be used (counted from 0):" in error
    assert error.count("training row") == 4
    assert "--skip_bad 4" in error
    assert Path("runs/kept/metrics.jsonl").read_bytes() == kept
    assert run("federate", [*command, "--overwrite", "--skip_bad", "4"], "fedumm federate") == 0
    assert "training row 14 (questions.csv, line 16) the image can't be read" in capsys.readouterr().out
    assert len(json.loads(Path("runs/kept/data.json").read_text())["train"]["rows"]["bad"]) == 4


def test_a_split_that_is_impossible_leaves_the_run_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*TINY, "--dataset", str(folder), "--in_process", "--num_rounds", "1", "--name", "kept"]
    assert run("federate", command, "fedumm federate") == 0
    kept = Path("runs/kept/metrics.jsonl").read_bytes()
    assert run("federate", [*command, "--overwrite", "--num_clients", "500"], "fedumm federate") == 2
    assert "500 clients are too many" in capsys.readouterr().err
    assert Path("runs/kept/metrics.jsonl").read_bytes() == kept
