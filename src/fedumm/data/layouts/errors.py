"""What is wrong with a file of a data set."""

from __future__ import annotations

import codecs
from functools import partial
from pathlib import Path

from fedumm.errors import FedummError
from fedumm.texts import one_line

_BLOCK = 1 << 20


class LayoutError(FedummError):
    """Half a sentence without a full stop that names the file; who asked for the data set names that, and ends it."""


def not_utf8(path: Path) -> LayoutError:
    """That ``path`` is not in UTF-8, and the first line that is not, where reading it failed."""
    decoder, line = codecs.getincrementaldecoder("utf-8")(), 1
    with path.open("rb") as file:
        for block in iter(partial(file.read, _BLOCK), b""):
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                break
            line += block.count(b"\n")
    return LayoutError(f"{one_line(path.name, 100)}, line {line:,} is not in UTF-8: save it so")
