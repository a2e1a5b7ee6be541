"""Bad rows are told with their file and the line on which they begin there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedumm.data.request import DataRequest
from fedumm.data.row_origins import row_origins
from fedumm.errors import FedummError
from support.layouts import jsonl, load, pictures, write

ROWS = [{"image": "1.png", "question": "which\nof the two?", "answer": "left"}, {"image": "2.png", "question": "?"}] * 2
LINED = 'image,question,answer\n1.png,"which\nof the two?",left\n\n2.png,?,\n1.png,?,left\n2.png,?,""\n'


def told(folder: Path, name: str = "", **more: object) -> str:
    with pytest.raises(FedummError) as error:
        load(folder / name, folder / "cache", **more)
    return str(error.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures(tmp_path, ["1.png", "2.png"])
    return tmp_path


@pytest.mark.parametrize("name", ["", "data.csv"])
def test_a_line_of_a_csv_is_where_the_row_begins(name: str, folder: Path) -> None:
    write(folder / "data.csv", LINED)
    message = told(folder, name)
    assert "\n  training row 1 (data.csv, line 5): has no answer\n" in message
    assert "\n  training row 3 (data.csv, line 7): has no answer\n" in message


def test_a_line_of_json_lines(folder: Path) -> None:
    write(folder / "data.jsonl", "\n" + jsonl(ROWS))
    assert "\n  training row 1 (data.jsonl, line 3): has no answer\n" in told(folder)


def test_each_split_has_its_file(folder: Path) -> None:
    write(folder / "train.csv", LINED)
    write(folder / "test.csv", "image,question,answer\n1.png,?,\n")
    message = told(folder)
    assert "\n  training row 1 (train.csv, line 5): " in message
    assert "\n  evaluation row 0 (test.csv, line 2): " in message


def test_a_column_of_splits_does_not_move_rows(folder: Path) -> None:
    lines = ["image,question,answer,split", "1.png,?,a,train", "1.png,?,b,test", "2.png,?,c,train", "2.png,?,,test"]
    write(folder / "data.csv", "\n".join(lines))
    assert "\n  evaluation row 3 (data.csv, line 5): has no answer\n" in told(folder)


def test_several_files_of_a_split_are_told_apart(folder: Path) -> None:
    for number in (1, 2):
        write(folder / f"train-{number}.json", json.dumps(ROWS[:1] * 3))
    write(folder / "test.json", json.dumps(ROWS[:1]))
    assert row_origins(folder, DataRequest(), "", False, [1, 4]) == {1: "train-1.json, row 1", 4: "train-2.json, row 1"}
    assert row_origins(folder, DataRequest(), "", True, [0]) == {}, "the row's number says it already"
    assert row_origins(folder, DataRequest(train_split="train[1:]"), "", False, [1]) == {}
