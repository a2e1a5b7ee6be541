"""Answers, captions, questions and identities as tables of all origins hold them, from the file to the sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Features, Image, List, Value

from fedumm.data.answers import Answers, read_answers
from fedumm.data.identity import image_identities
from fedumm.data.pictures import with_pictures
from fedumm.data.places import Places
from fedumm.errors import FedummError
from fedumm.tasks import T2I
from support.layouts import load, pictures, write

FOUR = ["1", "2", "3", "4"]
COLORS = ["red", "green", "blue"]
TEXT = Value("string")


def read(features: dict[str, Any] | None = None, **columns: Any) -> Answers:
    kinds = {name: Dataset.from_dict({name: values}).features[name] for name, values in columns.items()}
    return read_answers(Dataset.from_dict(columns, features=Features(kinds | (features or {}))))


# beside choices

INDICES = {
    "an index column of texts": ({"correct_choice_idx": ["1", "3"]}, ["2", "4"]),
    "as pandas writes it": ({"answer_idx": ["1.0", "3.0"]}, ["2", "4"]),
    "an index column of numbers": ({"answer_index": [1.0, 3.0]}, ["2", "4"]),
    "texts of which one is no choice": ({"answer": ["1", "0"]}, ["2", "1"]),
    "texts that all are choices": ({"answer": ["1", "3"]}, ["1", "3"]),
    "numbers of which all are choices": ({"answer": [1, 3]}, ["2", "4"]),
    "a list of one number": ({"answers": [[1], [3]]}, ["2", "4"]),
    "texts of several humans": ({"answers": [["1", "1", "0"], ["3"]]}, ["1", "3"]),
    "beside an index column, texts of humans": ({"correct_choice_idx": ["1", "3"], "answers": ["0", "9"]}, ["2", "4"]),
}


@pytest.mark.parametrize("form", INDICES)
def test_numbers_beside_choices_mean_the_same_in_all_rows(form: str) -> None:
    given, expected = INDICES[form]
    found = read(choices=[FOUR, FOUR], **given)
    assert (found.best, found.bad) == (expected, {})


@pytest.mark.parametrize("answers", [["B", "c"], ["(B)", "(C)"], ["B.", "C."], ["B)", "C:"], ["(B) Green", "C. blue"]])
def test_letters_beside_choices(answers: list[str]) -> None:
    found = read(choices=[COLORS, COLORS], answer=answers)
    assert found.best == ["green", "blue"]
    assert found.notes == ("answer: letters are read as choices",)
    assert found.all == [["green"], ["blue"]]


def test_letters_that_are_no_choices_stay_texts() -> None:
    assert read(choices=[COLORS, COLORS], answer=["(B) red", "blue"]).best == ["(B) red", "blue"]
    assert read(choices=[["A", "B"], ["B", "A"]], answer=["A", "A"]).best == ["A", "A"]
    assert read(choices=[COLORS, COLORS], answer=["a blue", "b red"]).best == ["a blue", "b red"]


def test_letters_and_choices_in_one_column() -> None:
    spelt = ["A", "b", "(C)", "B) green", "red"]
    assert read(choices=[COLORS] * 5, answer=spelt).best == ["red", "green", "blue", "green", "red"]
    doubt = read(choices=[["B", "A"], COLORS, COLORS], answer=["A", "B", "red"])
    assert doubt.best == ["A", "B", "red"], "a letter is a choice"


def test_a_column_that_is_not_all_places_is_read_as_texts_and_that_is_said() -> None:
    found = read(choices=[FOUR, FOUR, FOUR], answer=["0", "3", "many"])
    assert found.best == ["0", "3", "many"]
    assert found.notes == ("answer: some could be numbers or letters of choices; all are read as texts",)


def test_an_index_needs_choices_and_nothing_else_is_one() -> None:
    found = read({"choices": List(TEXT)}, choices=[None, COLORS, COLORS, COLORS], answer_idx=["0", "blue", "3", "2"])
    assert found.best == [None, None, None, "blue"]
    assert found.bad == {
        0: "has the answer_idx 0, and no choices",
        1: "has the answer_idx blue, which is no number of a choice",
        2: "has the answer_idx 3, and 3 choices",
    }
    assert read(answer_idx=[0]).bad == {0: "has the answer_idx 0, and no choices"}
    assert read(answer_idx=[0], answer=["red"]).best == ["red"], "without choices the number is of something else"


def test_open_questions_beside_those_with_choices() -> None:
    found = read({"choices": List(TEXT)}, choices=[COLORS, None, None], answer=["B", "a bus", "C"])
    assert found.best == ["green", "a bus", None]
    assert found.bad == {2: "has the answer C, and no choices"}


def test_the_letter_beside_an_index_is_the_same_choice() -> None:
    found = read(choices=[COLORS, COLORS], answer_index=[1, 0], answer=["B", "A"])
    assert (found.best, found.all) == (["green", "red"], [["green"], ["red"]])


def test_nulls_among_choices_keep_their_places() -> None:
    found = read(choices=[[None, "green", None, None]], answer=[1])
    assert (found.best, found.choices) == (["green"], [["", "green"]])


# written as texts

WRITTEN = {
    "{'answer': ['red', 'red', 'blue']}": ["red", "red", "blue"],
    "{'answer': ['red', 'blue'], 'id': [1, 2]}": ["red", "blue"],
    '{"answer": "red", "confidence": "yes"}': ["red"],
    "('a', 'b')": ["a", "b"],
    "('a',)": ["a"],
    r'["a\/b", "c\u00e9"]': ["a/b", "cé"],
    '["a", null]': ["a"],
    "['a', None]": ["a"],
    '[null, "a"]': ["a"],
    '["a0", true, 2]': ["a0", "yes", "2"],
    '[{"answer": "a"}, {"answer": null}, {"answer": NaN}]': ["a"],
    "['a' 'b']": ["a", "b"],
    '("hello" he said)': ['("hello" he said)'],
    "(left)": ["(left)"],
    "{curly}": ["{curly}"],
    "[None of these]": ["[None of these]"],
}


@pytest.mark.parametrize("text", WRITTEN)
def test_lists_and_records_written_as_texts(text: str) -> None:
    found = read(answer=[text])
    assert (found.all, found.bad) == ([WRITTEN[text]], {})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1, 2]", "has in answer '[1, 2]', which looks like a list and is none of texts"),
        ("['a', ['b']]", "which looks like a list and is none of texts"),
        ("['a' 'b', None]", "which looks like a list and is none of texts"),
        ("{'value': 'red'}", "nor a record with 'answer'"),
        ("{'answer': red}", "which looks like a record and is none"),
        ("[null]", "has no answer"),
    ],
)
def test_what_is_written_and_no_answer_is_said(text: str, reason: str) -> None:
    assert reason in read(answer=[text]).bad[0]


# numbers


@pytest.mark.parametrize(("kind", "text"), [("float16", "0.1"), ("float32", "0.1"), ("float64", "0.1")])
def test_a_number_is_as_short_as_its_type_allows(kind: str, text: str) -> None:
    assert read({"answer": Value(kind)}, answer=[0.1, 2.0]).best == [text, "2.0"]


def test_whole_numbers_in_lists_have_no_point() -> None:
    assert read(answers=[[2.0, 3.0, 3.0]]).all == [["2", "3", "3"]]


# from a file


def samples(folder: Path, rows: list[dict[str, Any]], **more: Any) -> Dataset:
    """Training samples of a JSON file with ``rows``, each with a picture of its own unless it names one."""
    rows = [{"image": f"{row}.png", **cells} for row, cells in enumerate(rows)]
    pictures(folder, [f"{row}.png" for row in range(len(rows))])
    for split in ("train", "val"):
        write(folder / f"{split}.json", json.dumps(rows))
    return load(folder, folder / "cache", **more).train


def test_nan_as_pandas_writes_it_is_nothing(tmp_path: Path) -> None:
    cells = [(1.0, "red", "a?"), (float("nan"), float("nan"), "b?"), (2.0, "blue", float("nan")), (None, "red", "c?")]
    rows = samples(
        tmp_path, [{"image_id": i, "answer": a, "question": q, "answer_type": a} for i, a, q in cells], skip_bad=2
    )
    assert rows["question"][:] == ["a?", "c?"]
    assert rows["multiple_choice_answer"][:] == ["red", "red"]
    assert rows["image_id"][0] == "1"
    assert rows["image_id"][1].endswith("3.png")


@pytest.mark.parametrize("nothing", [float("nan"), "", " ", None])
def test_images_without_a_name_are_not_one_image(tmp_path: Path, nothing: Any) -> None:
    named = [{"image_id": "x"}, {"image_id": nothing}, {"image_id": nothing}]
    rows = samples(tmp_path, [{"question": "a?", "answer": "red", **cells} for cells in named])
    assert rows["image_id"][0] == "x"
    assert len(set(rows["image_id"])) == 3


@pytest.mark.parametrize("embedded", [False, True])
def test_a_row_without_a_name_has_that_of_a_row_with_its_image(tmp_path: Path, embedded: bool) -> None:
    pictures(tmp_path, ["a.png", "b.png", "c.png"], 1)
    shown = ["a.png", "a.png", "b.png", "b.png", "c.png", "c.png"]
    images = [{"bytes": (tmp_path / name).read_bytes() if embedded else None, "path": name} for name in shown]
    features = Features({"image": Image(), "image_id": Value("float64")})
    raw = Dataset.from_dict({"image": images, "image_id": [None, 7.0, float("nan"), 8.0, None, None]}, features)
    rows = with_pictures(raw, Places(tmp_path), "x")[0]
    found = image_identities(rows, "image_id", range(6))
    names, ways = found.names, found.how
    assert names[:4] == ["7", "7", "8", "8"]
    assert names[4] == names[5] not in ("7", "8", "", "nan")
    assert ways == "the column image_id, else their " + ("content (SHA-256)" if embedded else "files")


def test_values_of_mixed_kinds_in_json(tmp_path: Path) -> None:
    answers = ["x", True, False, 3, 1.0, {"answer": "z"}, [{"answer": "y"}, {"answer": None}]]
    rows = samples(tmp_path / "a", [{"question": "a?", "answer": answer} for answer in answers[:-1]])
    assert rows["multiple_choice_answer"][:] == ["x", "yes", "no", "3", "1", "z"]
    lists = [["a0", True, 2], {"answer": "z"}, "x", None, [float("nan"), 1.0]]
    rows = samples(tmp_path / "b", [{"question": "a?", "answers": answer} for answer in lists], skip_bad=2)
    assert rows["answers"][:] == [["a0", "yes", "2"], ["z"], ["x"], ["1"]]
    rows = samples(tmp_path / "c", [{"question": "a?", "answer": answer} for answer in answers])
    assert rows["answers"][:] == [["x"], ["yes"], ["no"], ["3"], ["1"], ["z"], ["y"]]


def test_numbers_that_are_not_whole_keep_their_points(tmp_path: Path) -> None:
    rows = samples(tmp_path, [{"question": "a?", "answer": answer} for answer in ("x", 1.0, 2.5)])
    assert rows["multiple_choice_answer"][:] == ["x", "1.0", "2.5"]


DRAWN = {"columns": ("image", "caption"), "mix": {T2I.name: 1}}


def test_captions_in_all_forms(tmp_path: Path) -> None:
    cells = [
        "['c00', 'c01']",
        " a dog ",
        [" b ", "", None],
        {"raw": "c"},
        [{"raw": "d"}, {"caption": "e"}],
        7,
        '[{"text": "f"}]',
        float("nan"),
    ]
    made = samples(tmp_path / "a", [{"captions": cell} for cell in cells], **DRAWN)
    assert made["caption"][:] == ["c00", "c01", "a dog", "b", "c", "d", "e", "7", "f"]


def test_captions_of_a_csv_that_are_lists_written_as_texts(tmp_path: Path) -> None:
    """As in Flickr30k's CSV on the Hub."""
    pictures(tmp_path, ["0.png"])
    for split in ("train", "val"):
        write(tmp_path / f"{split}.csv", 'image,caption\n0.png,"[""c00"", ""it\'s c01 ""]"\n')
    splits = load(tmp_path, tmp_path / "cache", **DRAWN)
    assert splits.train["caption"][:] == ["c00", "it's c01"]
    assert splits.reports[0].notes == ("caption: lists written as texts are read as lists",)


def test_a_caption_that_can_not_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(FedummError, match=r"training row 0: has in caption '\[1, 2\]', which looks like a list"):
        samples(tmp_path, [{"caption": "[1, 2]"}], **DRAWN)


def test_questions_that_are_numbers_are_texts(tmp_path: Path) -> None:
    rows = samples(tmp_path, [{"question": question, "answer": "red"} for question in (1, 2, None)])
    assert rows["question"][:] == ["1", "2"]


def test_questions_that_are_no_texts_are_bad_rows(tmp_path: Path) -> None:
    cells = [["a?", "b?"], "c?", ["d?"], [], [{"x": 1}, "e?"]]
    with pytest.raises(FedummError) as caught:
        samples(tmp_path / "a", [{"question": question, "answer": "red"} for question in cells])
    said = str(caught.value)
    assert said.splitlines()[1:4] == [f"  training row {row}: has a question that is no text" for row in (0, 3, 4)]
    with pytest.raises(FedummError, match="training row 0: has a question that is no text"):
        samples(tmp_path / "b", [{"question": {"x": "a?"}, "answer": "red"}])


# which column is meant


def test_answers_that_the_option_names_come_before_all_others(tmp_path: Path) -> None:
    cells = {"question": "a?", "multiple_choice_answer": "old", "answers": ["older"], "answer_idx": 0, "reply": "new"}
    samples(tmp_path, [cells])
    splits = load(tmp_path, tmp_path / "cache", column_names={"answer": "reply"})
    assert (splits.train["multiple_choice_answer"][:], splits.train["answers"][:]) == (["new"], [["new"]])
    assert splits.reports[0].notes == (
        "answer from reply, as --columns says: multiple_choice_answer, answers, answer_idx not read",
    )
    both = {"answer": "reply", "answers": "answers"}
    assert load(tmp_path, tmp_path / "cache", column_names=both).train["answers"][:] == [["older"]]


def test_captions_that_the_option_names_come_before_all_others(tmp_path: Path) -> None:
    rows = samples(tmp_path, [{"caption": "old", "alts": ["a", "b"]}], column_names={"captions": "alts"}, **DRAWN)
    assert rows["caption"][:] == ["a", "b"]


def test_a_column_that_is_missed_may_be_named(tmp_path: Path) -> None:
    more = {f"c{number}": 1 for number in range(40)}
    with pytest.raises(FedummError) as caught:
        samples(tmp_path, [{"ask": "a?", "reply": "red", **more}])
    said = str(caught.value)
    assert "has no column question, answer. It has: image, ask, reply, c0," in said
    assert "c26, and 13 more. If one of them is meant, say which: --columns question=NAME,answer=NAME" in said
    assert "c27" not in said


def test_two_columns_that_may_be_meant_are_both_named(tmp_path: Path) -> None:
    write(tmp_path / "data.csv", "image_name,image_path,question,answer\n1.png,2.png,a?,red\n")
    pictures(tmp_path, ["1.png", "2.png"])
    with pytest.raises(FedummError) as caught:
        load(tmp_path / "data.csv", tmp_path / "cache")
    assert str(caught.value).endswith(
        "has no column image. It has: image_name, image_path, question, answer. "
        "image_name and image_path could each be image. If one of them is meant, say which: --columns image=image_name"
    )
