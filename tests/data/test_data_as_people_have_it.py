"""Answers, captions, questions and identities as tables of all origins hold them, from the file to the sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Features, List, Value

from fedumm.data.answers import Answers, read_answers

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


def test_a_column_that_is_not_all_places_is_read_as_texts_and_that_is_said() -> None:
    found = read(choices=[FOUR, FOUR, FOUR], answer=["0", "3", "many"])
    assert found.best == ["0", "3", "many"]
    assert found.notes == ("answer: some may be numbers or letters of choices; not all are, so all are read as texts",)


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
