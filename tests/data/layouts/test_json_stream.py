"""JSON read element by element says what Python's own reading of the whole file says, wherever a window ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedumm.data.layouts.errors import LayoutError
from fedumm.data.layouts.json_stream import elements

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))
ANY_FILE = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(path: Path, chunk: int) -> list[tuple[str, Any, bool]]:
    return [tuple(element) for element in elements(path, chunk)]  # type: ignore[misc]


@ANY_FILE
@given(
    content=st.lists(VALUES, max_size=5) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), VALUES),
    chunk=st.integers(1, 9),
    indent=st.sampled_from([None, 1]),
    plain=st.booleans(),
)
def test_all_that_is_in_the_file_is_read(tmp_path: Path, content: Any, chunk: int, indent: Any, plain: bool) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content, indent=indent, ensure_ascii=plain), encoding="utf-8")
    expected: list[tuple[str, Any, bool]] = []
    for key, value in content.items() if isinstance(content, dict) else [("", content)]:
        expected += [(key, entry, True) for entry in value] if isinstance(value, list) else [(key, value, False)]
    assert read(file, chunk) == expected


@ANY_FILE
@given(rows=st.lists(st.dictionaries(st.text(max_size=3), LEAVES), min_size=2), chunk=st.integers(1, 9))
def test_each_line_is_read(tmp_path: Path, rows: list[Any], chunk: int) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert read(file, chunk) == [("", row, True) for row in rows]


@ANY_FILE
@given(content=st.lists(VALUES, min_size=1, max_size=3), chunk=st.integers(1, 9), data=st.data())
def test_a_file_that_ends_early_is_an_error(tmp_path: Path, content: Any, chunk: int, data: st.DataObject) -> None:
    text = json.dumps(content)
    file = tmp_path / "a.json"
    file.write_text(text[: data.draw(st.integers(0, len(text) - 1))])
    with pytest.raises(LayoutError, match=r"a\.json is no JSON"):
        read(file, chunk)
