"""``docs/architecture.md`` is true: the modules that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "fedumm"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SECTION = PAGE.split("\n## Where is what\n")[1].split("\n## ")[0]
# Within a row of the federation, later names may leave its name out; those after them may start below runners.
PLACES = ("", "federation", "federation/runners", "federation/runners/flare")
ROWS = [line for line in SECTION.splitlines() if line.startswith("| ") and not line.startswith("| question")]


@pytest.mark.parametrize("row", ROWS)
def test_the_modules_of_an_answer_exist(row: str) -> None:
    names = re.findall(r"`([a-z_]+(?:\.[a-z_]+)*)`", row.split(" | ", 1)[1].replace(".RunListener", ""))
    assert names
    for name in names:
        path = name.replace(".", "/")
        candidates = [SOURCE / place / path for place in PLACES]
        assert any(c.with_suffix(".py").is_file() or (c / "__init__.py").is_file() for c in candidates), name
