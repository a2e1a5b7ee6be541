"""What ``datasets`` wrote or reads: saved folders, WebDatasets, and the configurations of a data card."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, disable_progress_bars

from fedumm.data import DataRequest, load_data
from fedumm.data.folder import load_folder
from fedumm.errors import FedummError
from support.layouts import listing, load, png, reds, tar, write


@pytest.fixture(scope="module", autouse=True)
def _no_bars() -> None:
    disable_progress_bars()


def rows_of(*numbers: int) -> Dataset:
    images = [{"bytes": png(10 * number), "path": None} for number in numbers]
    texts = {"question": [f"q{number}" for number in numbers], "answer": [str(number) for number in numbers]}
    return Dataset.from_dict({"image": images, **texts})


# save_to_disk


def test_a_saved_dict_of_splits(tmp_path: Path) -> None:
    DatasetDict({"train": rows_of(1, 2), "val": rows_of(3)}).save_to_disk(str(tmp_path / "data"))
    before = listing(tmp_path / "data")
    splits = load_folder(tmp_path / "data", DataRequest())
    assert splits.train["question"][:] == ["q1", "q2"]
    assert splits.eval["question"][:] == ["q3"]
    assert listing(tmp_path / "data") == before


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_single_saved_split_is_to_train_on(tmp_path: Path, wrapped: bool) -> None:
    rows = rows_of(1, 2)
    (DatasetDict({"test": rows}) if wrapped else rows).save_to_disk(str(tmp_path / "data"))
    splits = load_folder(tmp_path / "data", DataRequest())
    assert splits.train["question"][:] == ["q1", "q2"]
    assert splits.eval is None


def test_prepared_rows_that_were_saved_are_read_by_another_process(tmp_path: Path) -> None:
    """A process that has not opened a picture yet does not know their kind of column."""
    rows = load_data("easy_vqa", DataRequest(columns=("image", "question", "answers"), max_train_samples=6)).train
    DatasetDict({"train": rows, "validation": rows}).save_to_disk(str(tmp_path / "set"))
    look = (
        "from fedumm.data import DataRequest, load_data, read_image\n"
        f"rows = load_data({str(tmp_path / 'set')!r}, DataRequest(columns=('image', 'question', 'answers'))).train\n"
        "print(len(rows), read_image(rows, 0).size)\n"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "6 (64, 64)"


def test_a_single_saved_split_with_a_column_split_is_divided(tmp_path: Path) -> None:
    rows = rows_of(1, 2, 3).add_column("split", ["test", "train", "train"])
    rows.save_to_disk(str(tmp_path / "data"))
    splits = load_folder(tmp_path / "data", DataRequest())
    assert (splits.train["question"][:], splits.eval["question"][:]) == (["q2", "q3"], ["q1"])


def test_a_column_split_of_something_else_is_a_column(tmp_path: Path) -> None:
    rows_of(1, 2).add_column("split", ["fold 1", "fold 2"]).save_to_disk(str(tmp_path / "data"))
    splits = load_folder(tmp_path / "data", DataRequest())
    assert (len(splits.train), splits.eval) == (2, None)


# WebDataset


def described(number: int) -> dict[str, bytes]:
    text = {"question": f"q{number}", "answer": str(number), "source": {"by": "us"}}
    return {"png": png(10 * number), "json": json.dumps(text).encode()}


@pytest.mark.parametrize("place", ["{}-000000.tar", "{}/000000.tar"])
def test_webdataset_with_json(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "data"
    tar(folder / place.format("train"), {f"{number:04d}": described(number) for number in (1, 2)})
    tar(folder / place.format("val"), {"0001": described(3)})
    before = listing(folder)
    splits = load(folder, tmp_path / "cache")
    assert (splits.train["question"][:], splits.eval["question"][:]) == (["q1", "q2"], ["q3"])
    assert (reds(splits.train), reds(splits.eval)) == ([1, 2], [3])
    assert splits.train["multiple_choice_answer"][:] == ["1", "2"]
    assert splits.columns["image"] == "png"
    assert listing(folder) == before
    pictures = [file for file in (tmp_path / "cache").rglob("*") if file.suffix in (".png", ".tar")]
    assert pictures == [], "they are in the cache once, as Arrow"


def test_webdataset_with_captions(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "val")):
        tar(tmp_path / "data" / f"{split}.tar", {"a": {"jpg": png(10 * number, "JPEG"), "txt": b"a dog"}})
    splits = load(tmp_path / "data", tmp_path / "cache", columns=("image", "caption"), mix={"t2i": 1})
    assert splits.train["caption"][:] == ["a dog"]
    assert splits.columns == {"image": "jpg", "caption": "txt"}


def test_one_tar(tmp_path: Path) -> None:
    file = tar(tmp_path / "all.tar", {"a": described(1), "b": described(2)})
    rows = load_folder(file, DataRequest(cache_dir=str(tmp_path / "cache")))
    assert len(rows.train) == 2
    assert rows.eval is None


def test_a_name_in_a_tar_is_no_place(tmp_path: Path) -> None:
    for split in ("train", "val"):
        tar(tmp_path / "data" / f"{split}.tar", {"../../a": described(1)})
    assert reds(load(tmp_path / "data", tmp_path / "cache").train) == [1]
    assert not list(tmp_path.glob("*.png"))


# configurations


def configured(folder: Path, *names: str, default: str = "") -> Path:
    """Data sets of one folder, whose questions begin with their names."""
    entries = ""
    for name in names:
        entries += f"- config_name: {name}\n" + ("  default: true\n" if name == default else "") + "  data_files:\n"
        for split in ("train", "test"):
            line = {"image": "1.png", "question": f"{name} {split}?", "answer": "yes"}
            write(folder / name / f"{split}.jsonl", json.dumps(line) + "\n")
            entries += f"  - split: {split}\n    path: {name}/{split}.jsonl\n"
    write(folder / "README.md", f"---\nconfigs:\n{entries}---\n# Data\n")
    write(folder / "1.png", png())
    return folder


def first(folder: Any, cache: Path) -> list[str]:
    splits = load(folder, cache)
    return [splits.train["question"][0], splits.eval["question"][0]]


def test_a_configuration_by_name(tmp_path: Path) -> None:
    folder = configured(tmp_path / "data", "easy", "hard")
    for name in ("easy", "hard"):
        assert first(f"{folder}:{name}", tmp_path / "cache") == [f"{name} train?", f"{name} test?"]


@pytest.mark.parametrize(("names", "default"), [(["only"], ""), (["a", "b"], "b"), (["a", "default"], "")])
def test_the_default_or_only_configuration(tmp_path: Path, names: list[str], default: str) -> None:
    folder = configured(tmp_path / "data", *names, default=default)
    assert first(folder, tmp_path / "cache") == [f"{names[-1]} train?", f"{names[-1]} test?"]


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("", r"has several configurations: name one, as --dataset \S+:easy. There are easy, hard."),
        (":esay", "has no configuration 'esay'. It has: easy, hard. Did you mean 'easy'?"),
    ],
)
def test_several_configurations_are_listed(tmp_path: Path, end: str, message: str) -> None:
    folder = configured(tmp_path / "data", "easy", "hard")
    with pytest.raises(FedummError, match=message) as caught:
        load(f"{folder}{end}", tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_a_folder_with_a_colon_in_its_name_is_a_folder(tmp_path: Path) -> None:
    DatasetDict({"train": rows_of(1), "test": rows_of(2)}).save_to_disk(str(tmp_path / "my:data"))
    assert first(tmp_path / "my:data", tmp_path / "cache") == ["q1", "q2"]
