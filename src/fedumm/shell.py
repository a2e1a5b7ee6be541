"""Commands that are printed, to be pasted into a shell."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def quoted(path: str | os.PathLike[str]) -> str:
    """``path`` as a shell takes it for one argument, and a program for no option of its own.

    Example:
        >>> quoted("it's"), quoted("-v")
        ("'it'\"'\"'s'", './-v')
    """
    text = os.fspath(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def command_line(*words: object) -> str:
    """``fedumm`` with ``words``, which works when pasted into a POSIX shell, from any folder.

    Where that command would not be found, or be another environment's, ``python -m fedumm`` with the whole path of
    this Python.
    """
    found = shutil.which("fedumm")
    here = found is not None and Path(found).parent.resolve() == Path(sys.executable).parent.resolve()
    program = ["fedumm"] if here else [sys.executable, "-m", "fedumm"]
    return shlex.join([*program, *map(str, words)])
