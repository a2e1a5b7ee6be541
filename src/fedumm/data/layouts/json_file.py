"""JSON and JSON lines as a table: a list of objects, alone or in an object; an object for each id; or columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedumm.data.layouts import arrow
from fedumm.data.layouts.errors import LayoutError
from fedumm.data.layouts.json_stream import Element, elements
from fedumm.texts import one_line

if TYPE_CHECKING:
    import pyarrow as pa


def read_json(path: Path) -> pa.Table:
    """The table in ``path``.

    ==========================================  =======================================================
    ``[{"question": ...}, ...]``, JSON lines    an object is a row
    ``{"data": [{"question": ...}, ...]}``      likewise, whatever the key; other values of it are not read
    ``{"17": {"question": ...}, ...}``          likewise, with the key as ``question_id`` if it has none
    ``{"question": [...], "answer": [...]}``    a list is a column
    ``{"question": {"0": ..., ...}, ...}``      an object whose keys are numbers of rows is a column, as
                                                pandas writes it
    ==========================================  =======================================================

    Raises:
        LayoutError: it is none of these, or no JSON.
    """
    found = elements(path)
    first = next(found, None)
    if first is None:
        raise LayoutError(f"{path.name} has no rows")
    rest = chain([first], found)
    if first.listed and not first.key:
        return arrow.table_of(_objects(rest, path.name))
    return _of_object(rest, path.name)


def json_columns(path: Path) -> list[str]:
    """The names in its first row; empty if it has none."""
    rows = (value for _, value, listed in elements(path) if listed)
    first = next(rows, None)
    return list(first) if isinstance(first, dict) else []


def _objects(found: Iterator[Element], file: str) -> Iterator[dict[str, Any]]:
    for place, element in enumerate(found):
        if not isinstance(element.value, dict):
            raise LayoutError(f"{file}: its entry {place} is no object")
        yield element.value


def _of_object(found: Iterator[Element], file: str) -> pa.Table:
    """Rows are under one key, or under a key each; or each key is a column."""
    lists: dict[str, list[Any]] = {}
    single: dict[str, Any] = {}
    for key, value, listed in found:
        if listed:
            lists.setdefault(key, []).append(value)
        else:
            single[key] = value
    rows = [values for values in lists.values() if all(isinstance(value, dict) for value in values)]
    if len(rows) == 1:
        return arrow.table_of(rows[0])
    if lists and not rows and len({len(values) for values in lists.values()}) == 1:
        return _columns(lists)
    if single and not lists and all(isinstance(value, dict) for value in single.values()):
        if numbers := _numbers(single.values()):
            return _columns({name: [values.get(n) for n in numbers] for name, values in single.items()})
        return arrow.table_of({"question_id": key, **value} for key, value in single.items())
    raise LayoutError(
        f"{file} holds {one_line(', '.join([*lists, *single]), 200)}, and it is not clear which of them the rows are"
    )


def _numbers(columns: Iterable[dict[str, Any]]) -> list[str]:
    """The keys of all of ``columns``, if these are numbers of rows and no names; else none."""
    keys = dict.fromkeys(chain.from_iterable(columns))
    return list(keys) if all(key.isdecimal() for key in keys) else []


def _columns(lists: dict[str, list[Any]]) -> pa.Table:
    import pyarrow as pa

    return pa.table({name: arrow.array(values) for name, values in lists.items()})
