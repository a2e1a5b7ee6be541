"""Command lines that are shown to a user: they work when pasted, from any folder."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def command_line(*words: object) -> str:
    """``fedumm`` with ``words``, quoted for a POSIX shell.

    Where that command would not be found, or be another environment's, ``python -m fedumm`` with the whole path of
    this Python.
    """
    found = shutil.which("fedumm")
    here = found is not None and Path(found).parent.resolve() == Path(sys.executable).parent.resolve()
    program = ["fedumm"] if here else [sys.executable, "-m", "fedumm"]
    return shlex.join([*program, *map(str, words)])
