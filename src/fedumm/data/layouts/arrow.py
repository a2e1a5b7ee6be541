"""Arrow tables from rows as they are read: a few thousand at a time are Python objects, the others columns."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 10_000
"""Rows that are Python objects at a time."""


def dataset(table: pa.Table) -> Any:
    """``table`` as a ``datasets.Dataset`` in memory."""
    from datasets import Dataset

    # Without a name, 'datasets' would read all of it for one.
    return Dataset(table.replace_schema_metadata(None), fingerprint=uuid.uuid4().hex)


def table_of(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """A table of ``rows``, in their order; what a row lacks is null, and so is NaN.

    A column of several kinds of values becomes one of lists if one of them is a list, else one of texts: numbers and
    records as JSON writes them (where all floats are whole, ``3`` for 3.0), true and false as ``yes`` and ``no``
    (:mod:`fedumm.data.cell_texts`).
    """
    import pyarrow as pa

    parts, rest = [], iter(rows)
    while batch := list(islice(rest, _ROWS)):
        names = list(dict.fromkeys(chain.from_iterable(batch)))
        parts.append(pa.table({name: array([row.get(name) for row in batch]) for name in names}))
    return joined(parts)


def joined(parts: Sequence[pa.Table]) -> pa.Table:
    """Tables one below the other, whose columns may differ in what they lack and in their types."""
    import pyarrow as pa

    if not parts:
        return pa.table({})
    try:
        return pa.concat_tables(parts, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        names = dict.fromkeys(chain.from_iterable(part.column_names for part in parts))
        values = {name: list(chain.from_iterable(_values(part, name) for part in parts)) for name in names}
        return pa.table({name: array(column) for name, column in values.items()})


def _values(part: pa.Table, name: str) -> list[Any]:
    return part[name].to_pylist() if name in part.column_names else [None] * part.num_rows


def array(values: Sequence[Any]) -> pa.Array:
    """An Arrow array of ``values``; how it takes several kinds of them, :func:`table_of` says."""
    import pyarrow as pa

    for kinds in (lambda v: v, _lists, _texts):
        try:
            # As pandas reads it: NaN is null, within lists and records, too.
            return pa.array(kinds(values), from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            continue
    raise AssertionError("texts are always an array")


def _lists(values: Sequence[Any]) -> list[Any]:
    if not any(isinstance(value, list) for value in values):
        return _texts(values)
    wrapped = [value if _is_null(value) or isinstance(value, list) else [value] for value in values]
    lists = [value for value in wrapped if isinstance(value, list)]
    if all(isinstance(entry, dict) for value in lists for entry in value):
        return wrapped
    whole = _all_whole(chain.from_iterable(lists))
    return [[_text(entry, whole) for entry in value] if isinstance(value, list) else None for value in wrapped]


def _texts(values: Sequence[Any]) -> list[Any]:
    whole = _all_whole(values)
    return [_text(value, whole) for value in values]


def _all_whole(values: Iterable[Any]) -> bool:
    return all(value.is_integer() for value in values if isinstance(value, float) and not _is_null(value))


def _is_null(value: Any) -> bool:
    return value is None or value != value


def _text(value: Any, whole: bool) -> str | None:
    if _is_null(value):
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and whole:
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)
