"""Where in its file a row is, for messages: found when one is told, by reading the file once more."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from fedumm.data.layouts import splits_of, tables
from fedumm.data.layouts.csv_file import row_lines
from fedumm.data.layouts.json_stream import LINES
from fedumm.data.request import DataRequest
from fedumm.data.splits import SplitPart, pick_both
from fedumm.errors import FedummError
from fedumm.texts import one_line


def row_origins(
    path: Path, request: DataRequest, configuration: str, evaluation: bool, rows: Sequence[int]
) -> dict[int, str]:
    """``data.csv, line 7`` for those of ``rows`` of which it is known; none of data that are no tables.

    Args:
        path: of the data set.
        evaluation: whether they are rows of the split to evaluate on.
        rows: their numbers in the split.
    """
    train, test = SplitPart.parse(request.train_split), SplitPart.parse(request.eval_split)
    try:
        splits = splits_of(path, request, configuration)
        first, second = pick_both(list(splits), train, test, str(path))
        reader = splits[second if evaluation and second else first]
        # The rows of a part of a split are not counted from the file's beginning.
        if train.spec or test.spec or not isinstance(reader, partial) or reader.func is not tables.rows:
            return {}
        return _found(reader.args[0], sorted(rows))
    except (FedummError, OSError, ValueError, csv.Error):
        return {}


def _found(files: Sequence[Path], rows: Sequence[int]) -> dict[int, str]:
    """Of rows of ``files``, which are one table below the other; of a single one that has no lines, nothing."""
    found, before = dict[int, str](), 0
    for file in files:
        name, own = one_line(file.name, 60), [row - before for row in rows if row >= before]
        if not own:
            break
        if (lines := _lines(file)) is None and len(files) == 1:
            break
        if lines is None:
            count = tables.READERS[file.suffix.lower()](file).num_rows
            found |= {row + before: f"{name}, row {row}" for row in own if row < count}
        else:
            count, wanted = 0, set(own)
            for line in lines:
                if count in wanted:
                    found[count + before] = f"{name}, line {line:,}"
                count += 1
        before += count
    return found


def _lines(file: Path) -> Iterator[int] | None:
    """The line on which each row of ``file`` begins; None where rows are not lines."""
    ending = file.suffix.lower()
    if ending in (".csv", ".tsv"):
        return row_lines(file)
    return _json_lines(file) if ending in LINES else None


def _json_lines(file: Path) -> Iterator[int]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                json.loads(line)  # of a value that has several lines, nothing is said
                yield number
