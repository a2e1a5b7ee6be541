"""One set of column names, whatever a data set calls them; and pictures that can't be read."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as Pillow

from fedumm.data import DataRequest, DataSplits, load_data, read_image, register_source
from fedumm.data.picture_feature import Picture
from fedumm.data.pictures import with_pictures
from fedumm.data.places import Places
from fedumm.data.prepare import prepare
from fedumm.errors import FedummError

ALWAYS = ("answer_type", "image_id", "source_row", "task")
BLIP = ("image", "question", "multiple_choice_answer", "answers")
TEXT, NUMBER = Value("string"), Value("int64")
HUMANS = ["2", "two", "2", "2", "3"]
RECORDS = [{"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(HUMANS)]
RECORD = {"answer": TEXT, "answer_confidence": TEXT, "answer_id": NUMBER}
LISTS = {"answer": HUMANS, "answer_confidence": ["yes"] * 5, "answer_id": list(range(5))}


def png(color: str = "red", mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Pillow.new(mode, (6, 4), color).save(buffer, "PNG")
    return buffer.getvalue()


def table(columns: dict[str, list[Any]], **features: Any) -> Dataset:
    """Rows with these columns, and a picture and a question where they have none."""
    count = len(next(iter(columns.values())))
    base = {"image": [{"bytes": png(), "path": None}] * count, "question": ["how many?"] * count}
    every = {**base, **columns}
    known = {"image": Image(), "question": TEXT, **features}
    inferred = {name: Dataset.from_dict({name: values}).features[name] for name, values in columns.items()}
    return Dataset.from_dict(every, features=Features({name: {**inferred, **known}[name] for name in every}))


def canonical(raw: Dataset, columns: Sequence[str], name: str) -> Dataset:
    """Training samples of ``raw``."""
    return prepare(DataSplits(raw, raw), DataRequest(columns=tuple(columns)), Places(), name).train


ANSWER_FORMS = {
    "strings": (table({"answers": [HUMANS]}), HUMANS),
    "records": (table({"answers": [RECORDS]}, answers=List(RECORD)), HUMANS),
    "record of lists": (table({"answers": [LISTS]}, answers={k: List(v) for k, v in RECORD.items()}), HUMANS),
    "one string": (table({"answers": ["2"]}), ["2"]),
    "answer": (table({"answer": ["2"]}), ["2"]),
    "answer, several": (table({"answer": [HUMANS]}), HUMANS),
    "answer, a number": (table({"answer": [2]}), ["2"]),
    "most common only": (table({"multiple_choice_answer": ["2"]}), ["2"]),
    "both": (table({"multiple_choice_answer": ["2"], "answers": [HUMANS]}), HUMANS),
    "both, one of them empty": (table({"multiple_choice_answer": [None], "answers": [HUMANS]}), HUMANS),
    "both, the other empty": (table({"multiple_choice_answer": ["2"], "answers": [None]}, answers=List(TEXT)), ["2"]),
}


@pytest.mark.parametrize("form", ANSWER_FORMS)
def test_every_form_of_answers_becomes_strings_and_the_most_frequent_one(form: str) -> None:
    raw, answers = ANSWER_FORMS[form]
    rows = canonical(raw, BLIP, "x")
    assert rows["answers"][0] == answers
    assert rows["multiple_choice_answer"][0] == "2"
    assert rows["answer_type"][0] == "number"
    assert set(rows.column_names) == {*BLIP, *ALWAYS}


def test_the_given_most_common_answer_wins_over_counting() -> None:
    rows = canonical(table({"multiple_choice_answer": ["3"], "answers": [HUMANS]}), BLIP, "x")
    assert rows["multiple_choice_answer"][0] == "3"
    assert rows["answers"][0] == HUMANS


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("yes", "yes/no"),
        ("No ", "yes/no"),
        ("4", "number"),
        ("2.5", "number"),
        ("red", "other"),
        ("yes sir", "other"),
        ("1.2.3", "other"),
    ],
)
def test_answer_type_is_derived_from_the_answer(answer: str, kind: str) -> None:
    assert canonical(table({"answer": [answer]}), BLIP, "x")["answer_type"][0] == kind


def test_a_given_answer_type_is_kept() -> None:
    assert canonical(table({"answer": ["yes"], "answer_type": ["taste"]}), BLIP, "x")["answer_type"][0] == "taste"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"id_image": [7]}, {"image_id": "7"}),
        ({"image_id": [8]}, {"image_id": "8"}),
        ({"id_image": [7], "image_id": [8]}, {"image_id": "8"}),
        ({"img_id": ["a"]}, {"image_id": "a"}),
        ({"imageId": ["b"]}, {"image_id": "b"}),
        ({"cocoid": [9]}, {"image_id": "9"}),
        ({"qid": ["q-1"]}, {"question_id": "q-1"}),
        ({"qid": [7.5]}, {"question_id": "7.5"}),
        ({"id_question": [9], "question_type": ["how"]}, {"question_id": 9, "question_type": "how"}),
    ],
)
def test_identifiers_have_one_name(raw: dict[str, list[Any]], expected: dict[str, Any]) -> None:
    row = canonical(table({"answer": ["2"], **raw}), ("question",), "x")[0]
    assert {name: row[name] for name in expected} == expected
    assert not {"id_image", "id_question"} & set(row)


def test_other_columns_are_dropped() -> None:
    rows = canonical(table({"answer": ["2"], "clip_tags": ["a"], "blip_caption": ["b"]}), BLIP, "x")
    assert set(rows.column_names) == {*BLIP, *ALWAYS}


@pytest.mark.parametrize(
    ("raw", "columns"),
    [
        ({"answer": ["2"], "id_image": [7]}, ("question", "answer", "id_image")),
        ({"answer": ["2"], "hint": ["count"]}, ("question", "answer", "hint")),
        ({"answer": ["2"]}, ("question", "answer", "answers", "multiple_choice_answer")),
    ],
)
def test_a_backend_finds_its_columns_under_its_own_names(raw: dict[str, list[Any]], columns: tuple[str, ...]) -> None:
    rows = canonical(table(raw), columns, "x")
    assert set(columns) <= set(rows.column_names)
    assert rows["answer"][0] == "2"
    assert rows["multiple_choice_answer"][0] == "2", "what --partition_by answer reads"


def test_a_set_without_answers_serves_a_backend_that_reads_none() -> None:
    rows = canonical(table({"answer": [None]}, answer=TEXT), ("question",), "x")
    assert rows["question"][0] == "how many?"
    assert canonical(table({"width": [1]}), ("question", "width"), "x").column_names[:2] == ["question", "width"]


def test_missing_columns_are_named_with_those_there_are() -> None:
    with pytest.raises(FedummError) as caught:
        canonical(table({"answer": ["2"], "hint": ["h"]}), ("question", "hat", "mask"), "their/set")
    message = str(caught.value)
    assert message.startswith("--dataset their/set has no column hat, mask. It has: ")
    assert all(name in message for name in ("answer", "hint", "image", "question"))
    assert "multiple_choice_answer" not in message


@pytest.mark.parametrize(
    "raw",
    [
        table({"answers": [["2"], []]}, answers=List(TEXT)),
        table({"answers": [["2"], None]}, answers=List(TEXT)),
        table({"answer": ["2", None]}),
    ],
)
def test_a_row_without_answer_is_named(raw: Dataset) -> None:
    with pytest.raises(
        FedummError,
        match=r"^--dataset x: 2 of 4 rows can't be used \(counted from 0\):\n  training row 1: has no answer\n",
    ):
        canonical(raw, BLIP, "x")


@pytest.mark.parametrize("kind", ["string", "large_string"])
def test_a_column_of_file_names_is_read_as_images(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "one.png"
    file.write_bytes(png())
    raw = table({"image": [str(file)], "answer": ["2"]}, image=Value(kind))
    rows = with_pictures(raw, Places(tmp_path), "x")[0]
    assert isinstance(rows.features["image"], Picture)
    assert read_image(rows, 0).getpixel((0, 0)) == (255, 0, 0)
    assert rows["answer"][:] == ["2"]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK"])
def test_pictures_of_any_kind_are_read_as_rgb(mode: str) -> None:
    buffer = io.BytesIO()
    Pillow.new(mode, (6, 4)).save(buffer, "TIFF")
    rows = table({"image": [{"bytes": buffer.getvalue(), "path": None}]})
    image = read_image(rows, 0)
    assert (image.mode, image.size) == ("RGB", (6, 4))


BROKEN = {
    "no picture": b"this is not a picture",
    "cut short": png()[:50],
    "empty": b"",
    "damaged": png()[:20] + b"\xff" * 30,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_picture_is_named(kind: str) -> None:
    images = [{"bytes": data, "path": None} for data in (png(), BROKEN[kind])]
    rows = table({"image": images, "image_id": ["a-1", "b-2"]})
    assert read_image(rows, 0).size == (6, 4)
    with pytest.raises(FedummError, match=r"^The image of row 1 \(image_id b-2\) can't be read: ") as caught:
        read_image(rows, 1)
    assert "\n" not in str(caught.value)


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    file = tmp_path / "gone.png"
    file.write_bytes(png())
    rows = with_pictures(table({"image": [str(file)], "answer": ["2"]}, image=TEXT), Places(tmp_path), "x")[0]
    file.unlink()
    with pytest.raises(FedummError, match=r"^The image of row 0 can't be read: .*gone\.png"):
        read_image(rows, 0)


def test_a_row_without_picture_is_named() -> None:
    rows = table({"image": [None], "image_id": [5]})
    with pytest.raises(FedummError, match=r"^The image of row 0 \(image_id 5\) can't be read: there is none"):
        read_image(rows, 0)


def test_load_data_applies_all_this_to_both_splits() -> None:
    rows = table({"answer": ["2", "yes"], "id_image": [1, 2], "extra": ["a", "b"]})
    register_source("mine", lambda request: DataSplits(rows, rows))
    splits = load_data("mine", DataRequest(columns=BLIP))
    for part in (splits.train, splits.eval):
        assert set(part.column_names) == {*BLIP, *ALWAYS}
        assert list(part["answer_type"]) == ["number", "yes/no"]
