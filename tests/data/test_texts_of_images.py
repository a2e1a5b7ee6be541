"""``--task i2t``: which columns hold an image's texts, and which rows are one sample."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset

from fedumm.config import FederateConfig
from fedumm.data import DataRequest, DataSplits, load_data
from fedumm.data.places import Places
from fedumm.data.prepare import prepare
from fedumm.data.source import SOURCES
from fedumm.errors import FedummError
from fedumm.tasks import I2T, T2I, VQA


def made(columns: dict[str, list[Any]], given: dict[str, str] | None = None, **options: Any) -> DataSplits:
    """What a run would make of a table of ``columns``, through the source that a user registers."""
    raw = Dataset.from_dict(columns)
    SOURCES.register("own_texts", lambda request: DataSplits(raw, raw))
    try:
        request = DataRequest(columns=I2T.columns, mix={I2T.name: 1}, column_names=given or {}, **options)
        return load_data("own_texts", request)
    finally:
        SOURCES.forget("own_texts")


def texts(splits: DataSplits) -> list[list[str]]:
    rows = splits.train
    assert [own[0] for own in rows["texts"][:]] == rows["text"][:]
    assert set(rows["task"][:]) == {"i2t"}
    return list(rows["texts"][:])


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"caption": ["a", " b "]}, [["a"], ["b"]]),
        ({"captions": [["a", "b", "a"], ["c"]]}, [["a", "b"], ["c"]]),
        ({"captions": ["['a', 'b']", "c"]}, [["a", "b"], ["c"]]),
        ({"captions": [[{"raw": "a"}, {"raw": "b"}], [{"raw": "c"}]]}, [["a", "b"], ["c"]]),
        ({"caption": ["a", "c"], "captions": [["b", "a"], ["d"]]}, [["a", "b"], ["c", "d"]]),
        ({"caption": ["a", "c"], "text": ["b", "d"]}, [["a"], ["c"]]),
        ({"text": ["a", "b"]}, [["a"], ["b"]]),
        ({"findings": ["a", "b"]}, [["a"], ["b"]]),
        ({"Report": ["a", "b"]}, [["a"], ["b"]]),
        ({"description": ["a", "b"], "caption": ["c", "d"]}, [["c"], ["d"]]),
    ],
)
def test_an_images_texts_are_found(columns: dict[str, list[Any]], expected: list[list[str]]) -> None:
    assert texts(made(columns)) == expected


def test_columns_that_could_each_be_meant_are_named_and_a_user_chooses() -> None:
    both = {"findings": ["a", "b"], "impression": ["c", "d"]}
    with pytest.raises(FedummError, match=r"findings and impression could each be text\..*--columns text=findings"):
        made(both)
    assert texts(made(both, {"text": "impression"})) == [["c"], ["d"]]
    splits = made({**both, "caption": ["e", "f"]}, {"text": "findings"})
    assert texts(splits) == [["a"], ["b"]]
    assert any("caption not read" in note for note in splits.reports[0].notes)


def test_what_was_taken_for_the_text_is_told_and_only_where_a_text_is_wanted() -> None:
    assert made({"findings": ["a", "b"]}).columns == {"text": "findings"}
    raw = Dataset.from_dict({"question": ["q", "r"], "answer": ["a", "b"], "report": ["c", "d"]})
    SOURCES.register("own_texts", lambda request: DataSplits(raw, raw))
    try:
        assert load_data("own_texts", DataRequest(columns=VQA.columns)).columns == {}
    finally:
        SOURCES.forget("own_texts")


def test_rows_of_one_image_are_one_sample_with_the_texts_of_all() -> None:
    splits = made({"image_id": ["x", "y", "x", "x"], "caption": ["a", "b", "c", "a"], "answer_type": list("pqrs")})
    assert texts(splits) == [["a", "c"], ["b"]]
    assert splits.train["image_id"][:] == ["x", "y"]
    assert splits.train["answer_type"][:] == ["p", "q"]
    assert splits.reports[0].left_out == {"rows with an image that has come before, whose texts count": 2}


def test_rows_without_a_text_are_left_out_and_others_are_bad() -> None:
    splits = made({"captions": [["a"], None, []]}, skip_bad=2)
    assert texts(splits) == [["a"]]
    assert splits.reports[0].left_out == {"rows without a text": 1}
    assert splits.reports[0].bad == {2: "has no text"}


def test_a_caption_to_draw_stays_a_sample_of_its_own() -> None:
    raw = Dataset.from_dict({"image_id": ["x", "x"], "captions": [["a", "b"], ["c"]]})
    request = DataRequest(columns=T2I.columns, mix={T2I.name: 1})
    assert prepare(DataSplits(raw, raw), request, Places(), "set").train["caption"][:] == ["a", "b", "c"]


@pytest.mark.parametrize("dataset", ["shapes", "easy_vqa"])
def test_the_shipped_data_sets_have_texts(dataset: str) -> None:
    request = DataRequest(columns=("image", *I2T.columns), mix={I2T.name: 1}, max_train_samples=6, max_eval_samples=4)
    splits = load_data(dataset, request)
    assert (len(splits.train), len(splits.eval)) == (6, 4)
    assert all(own[0].startswith(("a ", "an ", "two ", "three ", "four ")) for own in texts(splits))


def test_a_text_is_no_label_to_split_by() -> None:
    """Nobody is told a report for its frequency."""
    from fedumm.training.data import label_column

    rows = made({"caption": ["a", "b"]}).train
    assert label_column(rows, FederateConfig(model_backend="januspro").partition_by) == "answer_type"
