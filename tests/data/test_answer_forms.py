"""What the answer to a question is, in every form that data sets have it in."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from hypothesis import given
from hypothesis import strategies as st

from fedumm.data.answers import Answers, most_common, read_answers
from fedumm.data.cell_texts import TextError

TEXT, LABEL = Value("string"), ClassLabel(names=["no", "yes", "x-ray"])
BLUES = ["blue", "blue"]
FOUR = ["left", "right", "up", "down"]


def read(features: dict[str, Any] | None = None, **columns: Any) -> Answers:
    """The answers of one row, or of several if the columns are longer."""
    kinds = {name: Dataset.from_dict({name: values}).features[name] for name, values in columns.items()}
    return read_answers(Dataset.from_dict(columns, features=Features(kinds | (features or {}))))


FORMS = {
    "a class label": (read({"answer": LABEL}, answer=[2]), "x-ray", ["x-ray"]),
    "a list of class labels": (read({"answers": List(LABEL)}, answers=[[1, 1, 0]]), "yes", ["yes", "yes", "no"]),
    "spaces around it": (read(answer=["  red \n"]), "red", ["red"]),
    "a list with blanks": (read(answers=[["", " ", "red"]]), "red", ["red"]),
    "a list written by Python": (read(answer=["['red', \"don't\"]"]), "red", ["red", "don't"]),
    "a list written by JSON": (read(answers=['["red", "red", "blue"]']), "red", ["red", "red", "blue"]),
    "a list written by numpy": (read(answers=["['red' 'blue' 'blue']"]), "blue", ["red", "blue", "blue"]),
    "an array on two lines": (read(answers=["['red'\n 'blue']"]), "red", ["red", "blue"]),
    "records written as a text": (read(answers=["[{'answer': 'net', 'answer_id': 1}]"]), "net", ["net"]),
    "what is in brackets and no list": (read(answer=["[unreadable]"]), "[unreadable]", ["[unreadable]"]),
    "true": (read(answer=[True]), "yes", ["yes"]),
    "false": (read(answer=[False]), "no", ["no"]),
    "a whole number": (read(answer=[3]), "3", ["3"]),
    "whole numbers beside nulls": (read(answer=[3.0, None]), "3", ["3"]),
    "a number": (read(answer=[0.5]), "0.5", ["0.5"]),
    "text that looks like a number": (read(answer=["007"]), "007", ["007"]),
    "an index": (read(choices=[FOUR], answer=[1]), "right", ["right"]),
    "an index as text": (read(choices=[FOUR], answer=["0"]), "left", ["left"]),
    "a letter": (read(choices=[FOUR], answer=["C"]), "up", ["up"]),
    "a choice itself": (read(choices=[FOUR], answer=["down"]), "down", ["down"]),
    "a number among numbers": (read(choices=[["2", "1", "0"]], answer=["0"]), "0", ["0"]),
    "an index of numbers": (read(choices=[["2", "1", "0"]], answer=[0]), "2", ["2"]),
    "choices written as a text": (read(choices=["['a cat', 'a dog']"], answer=[1]), "a dog", ["a dog"]),
    "no choices": (read({"choices": List(TEXT)}, choices=[[]], answer=["1"]), "1", ["1"]),
    "A-OKVQA": (
        read(choices=[FOUR], correct_choice_idx=[3], direct_answers=[["down", "below", "0"]]),
        "down",
        ["down", "below", "0"],
    ),
    "A-OKVQA written as text": (
        read(choices=[FOUR], correct_choice_idx=[3], direct_answers=["['down', 'below']"]),
        "down",
        ["down", "below"],
    ),
    "the most frequent spelling of the most frequent answer": (
        read(answers=[["two", "2", "two", "3", "3"]]),
        "two",
        ["two", "2", "two", "3", "3"],
    ),
    "a blank most frequent answer": (read(answers=[["", "", "red"]]), "red", ["red"]),
    "a named blank": (read(multiple_choice_answer=[" "], answers=[["red", "blue", "blue"]]), "blue", ["red", *BLUES]),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_is_read_in_the_form_it_has(form: str) -> None:
    found, best, everyone = FORMS[form]
    assert (found.best[0], found.all[0]) == (best, everyone)
    assert 0 not in found.bad


BAD = {
    "a list of numbers": (read(answer=["[1, 2]"]), "looks like a list"),
    "an open list": (read(answer=["['red', ]]"]), "looks like a list"),
    "a list in a list": (read(answer=["[['red']]"]), None),
    "an index too large": (read(choices=[FOUR], answer=[4]), "has the answer 4, and 4 choices"),
    "a negative index": (read(choices=[FOUR], answer=[-1]), "has the answer -1, and 4 choices"),
    "a letter too far": (read(choices=[FOUR], answer=["E"]), "has the answer E, and 4 choices"),
    "an unknown record": (read({"answer": {"value": TEXT}}, answer=[{"value": "red"}]), "nor a record with 'answer'"),
    "no label": (read({"answer": LABEL}, answer=[-1]), "has no answer"),
    "an empty list as text": (read(answer=["[]"]), "has no answer"),
    "spaces": (read(answer=["  "]), "has no answer"),
    "blanks only": (read(answers=[["", " "]]), "has no answer"),
    "null": (read({"answer": TEXT}, answer=[None]), "has no answer"),
}


@pytest.mark.parametrize("form", [form for form, (_, reason) in BAD.items() if reason])
def test_what_is_no_answer_is_said_and_not_guessed(form: str) -> None:
    found, reason = BAD[form]
    assert reason is not None
    assert reason in found.bad[0]
    assert found.best == [None]


def test_what_is_read_as_something_else_is_told() -> None:
    found = read({"answer": LABEL}, answer=[2, 0], choices=["['a', 'b']", "[]"])
    assert found.notes == (
        "answer: numbers of classes are read as their names",
        "choices: lists written as texts are read as lists",
    )
    assert read(answer=["red"]).notes == ()


def test_choices_keep_their_places() -> None:
    found = read(choices=[["", "b", "c"]], answer=[1])
    assert found.choices == [["", "b", "c"]]
    assert found.best == ["b"]
    assert read(answer=["1"]).choices is None


@given(st.lists(st.sampled_from(["two", "2", "Two", "a 2", "3", "three", "A", "-", "+"]), min_size=1))
def test_votes_are_counted_by_normalised_text(answers: list[str]) -> None:
    """Against a count by hand: these spellings of two and of three are one each; the others only themselves."""
    same = {"two": "2", "2": "2", "Two": "2", "a 2": "2", "3": "3", "three": "3"}
    groups = [same.get(answer, answer) for answer in answers]
    chosen = most_common(answers)
    assert chosen in answers
    assert groups.count(same.get(chosen, chosen)) == max(map(groups.count, groups))
    own = [a for a in answers if same.get(a, a) == same.get(chosen, chosen)]
    assert own.count(chosen) == max(map(own.count, own))


@given(st.text(alphabet="[]{}'\"\\, ab1\n#(", max_size=12))
def test_no_text_in_brackets_breaks_the_reader(text: str) -> None:
    found = read({"answer": TEXT}, answer=[text])
    assert 0 in found.bad or found.best[0]
    assert not any(isinstance(reason, TextError) for reason in found.bad.values())
