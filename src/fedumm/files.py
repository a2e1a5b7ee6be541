"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft to write to, which takes the place of ``path`` at the end, or of nothing if writing failed.

    A reader sees the old content or the new, never a part. The draft lies beside ``path``, and one that a killed
    process left behind is written over the next time.
    """
    # No pattern such as *.json matches it.
    draft = path.with_name(f".{path.name}.draft")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` in UTF-8, as a whole."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_durably(path: Path, content: bytes) -> None:
    """Replace ``path`` as a whole; ``content`` is on the disk when this returns, also if the machine fails then."""
    with replacing(path) as draft, open(draft, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
