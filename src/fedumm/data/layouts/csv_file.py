"""CSV and TSV as they are written: each cell is text, and an empty one is null.

``datasets`` guesses types: of the answers ``001``, ``1.0`` and ``True`` it makes 1, 1.0 and a truth value.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from fedumm.data.layouts.errors import LayoutError, not_utf8
from fedumm.texts import one_line

if TYPE_CHECKING:
    import pyarrow as pa

_SEPARATORS = ",;\t|"
_ROWS = 20_000
_LONGEST_CELL = 1 << 28
"""Characters: a picture as base64 is a cell."""


def read_csv(path: Path) -> pa.Table:
    """The table in ``path``; its columns are of type string.

    The separator is the most frequent of comma, semicolon, tab and bar in the first line, which names the columns. One
    without a name is called by its place, ``column 1``. Quoted cells may hold separators and ends of lines. Empty
    lines, and empty cells beyond the last column, count for nothing.

    Raises:
        LayoutError: it is not in UTF-8, two columns have one name, a row has too few or too many cells, or a quote is
            not closed.
    """
    import pyarrow as pa

    try:
        with path.open(encoding="utf-8-sig", newline="") as file, _long_cells():
            rows = csv.reader(file, delimiter=_separator(file, path), strict=True)
            names = _names(next(rows, []), path.name)
            cells = _cells(rows, len(names), path.name)
            schema = pa.schema([(name, pa.string()) for name in names])
            parts = []
            while batch := list(islice(cells, _ROWS)):
                columns = [[cell or None for cell in column] for column in zip(*batch, strict=True)]
                parts.append(pa.table(dict(zip(names, columns, strict=True)), schema=schema))
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    except csv.Error as error:
        raise LayoutError(f"{path.name}, line {rows.line_num}: {error}") from error
    return pa.concat_tables(parts) if parts else schema.empty_table()


def row_lines(path: Path) -> Iterator[int]:
    """The line on which each row of the table begins."""
    with path.open(encoding="utf-8-sig", newline="") as file, _long_cells():
        rows = csv.reader(file, delimiter=_separator(file, path), strict=True)
        next(rows, None)
        line = rows.line_num + 1
        for row in rows:
            if row:
                yield line
            line = rows.line_num + 1


def csv_columns(path: Path) -> list[str]:
    """The names of its columns."""
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file, _long_cells():
        return _names(next(csv.reader(file, delimiter=_separator(file, path)), []), path.name)


@contextmanager
def _long_cells() -> Iterator[None]:
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _separator(file: TextIO, path: Path) -> str:
    """Of the first line, what is in quotes left out; leaves ``file`` at its beginning."""
    line = file.readline()
    file.seek(0)
    if path.suffix.lower() == ".tsv":
        return "\t"
    plain = "".join(line.split('"')[::2])
    return max(_SEPARATORS, key=plain.count)


def _names(header: list[str], file: str) -> list[str]:
    names = [name.strip() or f"column {place}" for place, name in enumerate(header, start=1)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise LayoutError(f"{file} has two columns '{one_line(twice, 60)}': rename one")
    if not any(name.strip() for name in header):
        raise LayoutError(f"{file} has no first line with the names of columns")
    return names


def _cells(rows: Iterator[list[str]], width: int, file: str) -> Iterator[list[str]]:
    for row in rows:
        if not row:
            continue
        if len(row) < width or any(row[width:]):
            raise LayoutError(f"{file}, line {rows.line_num}: {len(row)} cells, where the first line has {width}")  # type: ignore[attr-defined]
        yield row[:width]
