"""Commands that are printed, to be pasted into a shell."""

from __future__ import annotations

import os
import shlex


def quoted(path: str | os.PathLike[str]) -> str:
    """``path`` as a shell takes it for one argument, and a program for no option of its own.

    Example:
        >>> quoted("it's"), quoted("-v")
        ("'it'\"'\"'s'", './-v')
    """
    text = os.fspath(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
