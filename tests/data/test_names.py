"""Columns by other names: by ``--columns``, or where there is no doubt."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from fedumm.config import FederateConfig
from fedumm.config.columns import COLUMN_NAMES, column_names
from fedumm.data.names import renamed, understood
from fedumm.errors import FedummError
from support.layouts import load, pictures, reds, write


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("file_name,question,answer", {"image": "file_name"}),
        ("Image,Question,Answer", {"image": "Image", "question": "Question", "answer": "Answer"}),
        ("IMG_PATH,query,ANSWER", {"image": "IMG_PATH", "question": "query", "answer": "ANSWER"}),
        ("Image Path, question ,answer", {"image": "Image Path"}),
        ("picture,question,multiple_choice_answer", {"image": "picture"}),
        ("image,question,answer", {}),
    ],
)
def test_names_that_leave_no_doubt(tmp_path: Path, header: str, columns: dict[str, str]) -> None:
    for split in ("train", "test"):
        write(tmp_path / "data" / f"{split}.csv", f"{header}\n1.png,who?,he\n")
    pictures(tmp_path / "data" / "images", ["1.png"], 4)
    splits = load(tmp_path / "data", tmp_path / "cache")
    assert splits.columns == columns
    assert reds(splits.train) == [4]
    assert (splits.train["question"][:], splits.train["answers"][:]) == (["who?"], [["he"]])


def test_two_names_for_a_picture_are_a_doubt(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write(tmp_path / f"{split}.csv", "file_name,img,question,answer\n1.png,2.png,who?,he\n")
    pictures(tmp_path, ["1.png", "2.png"], 1)
    with pytest.raises(FedummError, match=r"has no column image\. It has: file_name, img, question, answer"):
        load(tmp_path, tmp_path / "cache")
    splits = load(tmp_path, tmp_path / "cache", column_names={"image": "img"})
    assert (reds(splits.train), splits.columns) == ([2], {"image": "img"})


def test_a_picture_comes_before_the_name_of_its_file() -> None:
    assert understood({"jpg": {"bytes": 0, "path": 0}, "filename": "string"}, {}) == {"image": "jpg"}


def test_what_a_backend_reads_keeps_its_name() -> None:
    assert understood({"img": "string", "query": "string"}, {}, ("img",)) == {"question": "query"}


def test_columns_are_called_as_the_option_says(tmp_path: Path) -> None:
    """Also where a column has our name and means something else; and two may swap theirs."""
    for split in ("train", "test"):
        write(tmp_path / f"{split}.csv", "image,scan,answer,question,split\n9.png,1.png,who?,he,7\n")
    pictures(tmp_path / "scans", ["1.png"], 3)
    names = column_names("image=scan, question=answer, answer=question")
    splits = load(tmp_path, tmp_path / "cache", column_names=names)
    assert (reds(splits.train), splits.train["question"][:]) == ([3], ["who?"])
    assert splits.train["multiple_choice_answer"][:] == ["he"]
    assert splits.columns == names


def test_a_column_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write(tmp_path / f"{split}.csv", "image,question,reply\n1.png,who?,he\n")
    pictures(tmp_path, ["1.png"])
    message = (
        r"training rows have no column 'repli', which --columns names. They have: image, question, reply. Did you mean"
    )
    with pytest.raises(FedummError, match=message):
        load(tmp_path, tmp_path / "cache", column_names={"answer": "repli"})


def test_renaming_copies_nothing() -> None:
    rows = Dataset.from_dict({"img": ["a"], "image": ["b"], "q": ["c"]})
    new = renamed(rows, {"image": "img", "question": "q"}, "data")
    assert new.to_list() == [{"image": "a", "question": "c"}]
    before, after = (
        table.column(name).chunk(0).buffers()[2].address for table, name in ((rows.data, "img"), (new.data, "image"))
    )
    assert before == after


@given(st.dictionaries(st.sampled_from(COLUMN_NAMES), st.from_regex(r"[\w.]+", fullmatch=True), max_size=5))
def test_the_option_says_what_it_means(names: dict[str, str]) -> None:
    if len(set(names.values())) == len(names):
        assert column_names(",".join(f"{ours}={theirs}" for ours, theirs in names.items())) == names


@pytest.mark.parametrize(
    "value",
    ["image", "image=", "=jpg", "image=jpg,,caption", "picture=jpg", "image=jpg,image=png", "image=a,caption=a"],
)
def test_any_other_form_is_an_error_before_any_work(value: str) -> None:
    with pytest.raises(FedummError, match=r"^--columns "):
        FederateConfig(model_backend="blip_vqa", columns=value)
