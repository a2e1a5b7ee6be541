"""The project's pages, and the commands that they show."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def name(page: Path) -> str:
    """Of a page, from the root."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a language on a page."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """Each command of a page's shell blocks as words, without assignments of variables before it.

    Comments are dropped, as are blocks with a quoted text of several lines.
    """
    found = []
    for block in blocks(page, "bash"):
        try:
            lines = [shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines()]
        except ValueError:
            continue
        found += [[word for word in words if not re.match(r"[A-Z_]+=", word)] for words in lines if words]
    return found
