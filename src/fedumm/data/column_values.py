"""The values of a column, a part at a time: as Python's objects a large one takes several times its space."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

SOURCE_ROW = "source_row"
"""Column of samples with the number of their row in the data as they were given."""

ROWS = 10_000
"""Rows that are Python's objects at a time."""


def values_of(rows: Any, column: str) -> Iterator[Any]:
    """The values of one column of a ``datasets.Dataset``, in order; equal texts of a part are one object."""
    values = rows[column]
    for start in range(0, len(rows), ROWS):
        known: dict[str, str] = {}
        for value in values[start : start + ROWS]:
            yield known.setdefault(value, value) if isinstance(value, str) else value
