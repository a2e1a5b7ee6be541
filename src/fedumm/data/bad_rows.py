"""Rows with something wrong in them, told in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedumm.texts import one_line

OF_ROW = "of_row"
"""Column with the row of the data that a picture is of, where the numbers are those of pictures."""

LISTED = 20
"""Rows that are told one by one; of the others, only how many there are."""


def describe(bad: Mapping[str, tuple[Any, Mapping[int, str]]]) -> str:
    """``training rows 3 (image_id a), 9 (image_id b): it is damaged; evaluation row 1: is empty; and 30 rows more``.

    Args:
        bad: for each split its rows, and for the numbers of bad ones the reason.
    """
    found = [(split, rows, row, reason) for split, (rows, reasons) in bad.items() for row, reason in reasons.items()]
    groups: dict[tuple[str, str], list[str]] = {}
    for split, rows, row, reason in found[:LISTED]:
        groups.setdefault((split, reason), []).append(f"{row}{identity(rows, row)}")
    parts = [
        f"{split} {'row' if len(named) == 1 else 'rows'} {', '.join(named)}: {reason}".strip()
        for (split, reason), named in groups.items()
    ]
    more = len(found) - LISTED
    return "; ".join([*parts, f"and {more:,} {'row' if more == 1 else 'rows'} more"] if more > 0 else parts)


def identity(rows: Any, row: int) -> str:
    """`` (image_id 7)``, if the rows have such a column; `` (row 3 of the data, image_id 7)`` of a picture."""
    names = {OF_ROW: "row {} of the data", "image_id": "image_id {}"}
    there = [name for name in names if name in rows.column_names]
    values = rows.select_columns(there).with_format(None)[row] if there else {}
    told = ", ".join(names[name].format(one_line(values[name], 80)) for name in there)
    return f" ({told})" if told else ""
