"""Columns are read a part at a time, and say the same."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset, Features, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from fedumm.data import column_values
from fedumm.data.column_values import values_of

TEXTS = st.lists(st.none() | st.text(max_size=3), max_size=12)
NUMBERS = st.lists(st.none() | st.integers(-5, 5), max_size=12)
LISTS = st.lists(st.none() | st.lists(st.sampled_from("ab"), max_size=3), max_size=12)
KINDS = [(Value("string"), TEXTS), (Value("int64"), NUMBERS), (List(Value("string")), LISTS)]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.just(kind[0]), kind[1])), st.integers(1, 4))
def test_the_parts_of_a_column_are_the_column(kind_and_values: tuple[Any, list[Any]], size: int) -> None:
    kind, values = kind_and_values
    rows = Dataset.from_dict({"x": values}, features=Features({"x": kind}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(column_values, "ROWS", size)
        assert list(values_of(rows, "x")) == values


def test_equal_texts_are_one_object() -> None:
    first, second = values_of(Dataset.from_dict({"x": ["playing tennis"] * 2}), "x")
    assert first is second
