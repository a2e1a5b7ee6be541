"""Data as they come: one class only, too few rows, broken pictures. Each works or is one clear error."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, Features, Image, Value
from PIL import Image as Pil

from fedumm.cli.main import run


def png(color: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Pil.new("RGB", (64, 64), color).save(buffer, "PNG")
    return buffer.getvalue()


def folder_of(path: Path, pictures: list[bytes], answers: list[str]) -> Path:
    """A data set saved by ``datasets`` with these rows as training and as evaluation data."""
    features = Features(
        {"image": Image(), "question": Value("string"), "answer": Value("string"), "image_id": Value("string")}
    )
    rows = {
        "image": [{"bytes": picture, "path": None} for picture in pictures],
        "question": ["what color is the shape?"] * len(pictures),
        "answer": answers,
        "image_id": [f"picture-{i}" for i in range(len(pictures))],
    }
    data = Dataset.from_dict(rows, features=features)
    DatasetDict({"train": data, "validation": data}).save_to_disk(str(path / "data"))
    return path / "data"


def federate(data: Path, *more: str) -> int:
    options = ["--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--dataset", str(data), "--in_process"]
    return run("federate", [*options, "--num_rounds", "1", "--name", str(data.with_name("run")), *more], "job.py")


@pytest.mark.parametrize("alpha", ["0", "0.1"])
def test_a_single_class_is_trained_on(tmp_path: Path, alpha: str) -> None:
    data = folder_of(tmp_path, [png((250, 10, 10))] * 12, ["red"] * 12)
    assert federate(data, "--num_clients", "3", "--dirichlet_alpha", alpha) == 0
    assert (tmp_path / "run" / "adapter" / "best" / "adapter_model.safetensors").exists()


def test_all_broken_pictures_are_named_with_their_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = [png((250, 10, 10))] * 12
    pictures[7] = pictures[7][:60]
    data = folder_of(tmp_path, pictures, ["red"] * 12)
    assert federate(data) == 2
    error = capsys.readouterr().err
    assert "training row 7: " in error
    assert "evaluation row 7: " in error
    assert "--skip_bad 2" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("rows", "more", "message"),
    [
        (3, ["--num_clients", "4"], "4 clients are too many for 2 training samples"),
        (12, ["--partition_by", "answer_tpye", "--dirichlet_alpha", "1"], "Did you mean 'answer_type'?"),
        (
            12,
            ["--num_clients", "3", "--keep_images_whole", "--max_train_samples", "2"],
            "too many for 1 training images",
        ),
    ],
)
def test_data_that_do_not_serve_are_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: int, more: list[str], message: str
) -> None:
    data = folder_of(tmp_path, [png((0, 0, i)) for i in range(rows)], ["red"] * rows)
    assert federate(data, *more) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_diverging_client_is_rejected_and_the_run_ends_with_the_last_good_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[Any]
) -> None:
    data = folder_of(tmp_path, [png((0, 0, i)) for i in range(12)], ["red"] * 12)
    assert federate(data, "--lr", "1e30", "--num_rounds", "3") == 2
    assert "0 usable update(s)" in capsys.readouterr().err
