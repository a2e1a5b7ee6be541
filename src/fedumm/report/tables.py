"""Tables that fit: columns that matter less are left out where the screen is narrow."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len, set_cell_size

from fedumm.report.console import Screen
from fedumm.texts import CUT, one_line

IN_A_FILE = 160
"""Characters of a line that goes to a file or a pipe, unless ``COLUMNS`` says another number."""

_GAP = 2
_LONGEST = 200
_SHORTEST = 12
_LONGEST_LINE = 5000


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        cells: its texts; they may be somebody else's.
        rank: the columns of the highest rank are left out first; those of rank 0 stay, and the first of them is
            shortened where nothing else helps.
        side: on which its texts stand.
    """

    name: str
    cells: Sequence[str]
    rank: int = 0
    side: Literal["left", "right"] = "left"

    @property
    def width(self) -> int:
        """Of its longest text, in characters of a screen."""
        return max(cell_len(text) for text in (self.name, *self.cells))


def fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """Those of ``columns`` that fit into ``width`` characters, side by side."""
    kept = [Column(c.name, [one_line(text, _LONGEST) for text in c.cells], c.rank, c.side) for c in columns]
    while _total(kept) > width and any(c.rank for c in kept):
        worst = max(c.rank for c in kept)
        del kept[max(place for place, c in enumerate(kept) if c.rank == worst)]
    if (over := _total(kept) - width) > 0:
        first = kept[0]
        room = max(first.width - over, _SHORTEST)
        kept[0] = Column(first.name, [_cut(text, room) for text in first.cells], 0, first.side)
    return kept


def _total(columns: Sequence[Column]) -> int:
    return sum(c.width for c in columns) + _GAP * (len(columns) - 1)


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width - len(CUT)) + CUT


def table_lines(columns: Sequence[Column], width: int) -> list[str]:
    """The lines of a table: headings, a rule, rows. One is longer than ``width`` only if columns of rank 0 need it."""
    kept = fitting(columns, width)
    rows = [[c.name for c in kept], ["\u2500" * c.width for c in kept]]
    rows += [list(row) for row in zip(*(c.cells for c in kept), strict=True)]
    return [(" " * _GAP).join(map(_padded, row, kept)).rstrip() for row in rows]


def _padded(text: str, column: Column) -> str:
    space = " " * (column.width - cell_len(text))
    return space + text if column.side == "right" else text + space


def table_width() -> int:
    """Of the terminal; of a file, where no line is too long, what ``COLUMNS`` says, or :data:`IN_A_FILE`."""
    return _screen().width


def print_line(text: str) -> None:
    """Print a line as it is, but what does not print."""
    _screen().print(one_line(text, _LONGEST_LINE), soft_wrap=True)


def print_table(columns: Sequence[Column]) -> None:
    """Print what fits of a table."""
    screen = _screen()
    for line in table_lines(columns, screen.width):
        screen.print(line, soft_wrap=True)


def _screen() -> Screen:
    return Screen(width=None if sys.stdout.isatty() or os.environ.get("COLUMNS") else IN_A_FILE)
