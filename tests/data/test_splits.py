"""One split that a column divides: no row that the user calls a test row is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Value

from fedumm.data import DataRequest, DataSplits, load_data, register_source
from fedumm.data.splits import split_kind
from fedumm.errors import FedummError
from support.layouts import write

TEXTS = ("question", "multiple_choice_answer", "answers")
NAMES = {
    "train": ["train", "Training", "restval", "trainval", "train2014"],
    "validation": ["val", "valid", "validate", "dev", "eval", "minival", "validation"],
    "test": ["test", "testing", "testA", "testB", "test-dev", "holdout", "heldout"],
}


def table(folder: Path, values: Sequence[str], column: str = "split") -> Path:
    lines = [f"question,answer,{column}", *(f"q{row},yes,{value}" for row, value in enumerate(values))]
    return write(folder / "data.csv", "\n".join(lines))


def questions(splits: DataSplits) -> tuple[list[str], list[str]]:
    return splits.train["question"][:], splits.eval["question"][:]


def load(data: Any, **columns: str) -> tuple[list[str], list[str]]:
    return questions(load_data(str(data), DataRequest(columns=TEXTS, column_names=columns)))


@pytest.mark.parametrize("kind", NAMES)
def test_names_of_splits(kind: str) -> None:
    assert {name: split_kind(name) for name in NAMES[kind]} == dict.fromkeys(NAMES[kind], kind)


@pytest.mark.parametrize("column", ["fold", "Part"])
def test_the_column_that_the_options_name_divides(tmp_path: Path, column: str) -> None:
    file = table(tmp_path, ["train", "test", "train"], column)
    assert load(file, split=column) == (["q0", "q2"], ["q1"])


@pytest.mark.parametrize("test", ["holdout", "testA", "dev"])
def test_other_words_for_splits_divide(tmp_path: Path, test: str) -> None:
    assert load(table(tmp_path, ["train", test, "restval"])) == (["q0", "q2"], ["q1"])


def test_names_of_classes_divide() -> None:
    rows = Dataset.from_dict({"question": ["q0", "q1", "q2"], "answer": ["yes"] * 3, "split": [1, 0, 1]})
    rows = rows.cast_column("split", ClassLabel(names=["test", "train"]))
    register_source("labelled", lambda _: DataSplits(rows, None))
    assert load("labelled") == (["q0", "q2"], ["q1"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["train", "", "test", " "], r"the column 'split' .* 2 of 4 rows have nothing in it\. Write train"),
        (["train", "pool", "test", "x9"], r"the column 'split' .* names what is none: pool, x9\. Write train"),
        (["train", "", "train"], r"1 of 3 rows have nothing in it"),
    ],
)
def test_rows_of_no_split_are_not_trained_on_in_silence(tmp_path: Path, values: list[str], message: str) -> None:
    with pytest.raises(FedummError, match=message):
        load(table(tmp_path, values))


def test_a_column_of_folds_that_is_named_as_one_of_splits_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FedummError, match=r"the column 'fold' .*names what is none: 0, 1"):
        load(table(tmp_path, ["0", "1", "0"], "fold"), split="fold")


def test_a_column_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FedummError, match="no column 'part', which --columns names"):
        load(table(tmp_path, ["train", "test"]), split="part")


def test_a_column_of_other_things_divides_nothing(tmp_path: Path) -> None:
    train, test = load(table(tmp_path, ["left", "right", "left"]))
    assert sorted(train + test) == ["q0", "q1", "q2"]


def test_data_with_splits_are_not_divided_by_a_column(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path / f"{split}.csv", "question,answer,fold\nwho?,he,train\nwhat?,it,test\n")
    with pytest.raises(FedummError, match=r"--columns split=fold: .* has splits already \(train, validation\)"):
        load(tmp_path, split="fold")


def test_a_field_of_a_sample_divides() -> None:
    """As a WebDataset's ``json`` gives it."""
    features = {"question": Value("string"), "answer": Value("string"), "split": Value("string")}
    entries = [{"question": f"q{row}", "answer": "a", "split": s} for row, s in enumerate(["train", "test"])]
    rows = Dataset.from_dict({"json": entries})
    assert rows.features["json"] == features
    register_source("nested", lambda _: DataSplits(rows, None))
    assert load("nested") == (["q0"], ["q1"])
