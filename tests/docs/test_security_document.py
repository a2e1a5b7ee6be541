"""docs/security.md names a test beside each promise: it is there, and a quick one runs with each ``make test``."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"
ROWS = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
PROMISES = [row for row in ROWS if ".py`" in row]


def test_there_are_promises_on_every_border() -> None:
    assert len(PROMISES) > 20


def is_slow(marked: ast.Module | ast.FunctionDef | ast.ClassDef) -> bool:
    """Whether a test, or a module by its ``pytestmark``, is slow as a whole; single cases of a test may be."""
    if isinstance(marked, ast.Module):
        lines = [ast.unparse(line) for line in marked.body if isinstance(line, ast.Assign)]
        return any(line.startswith("pytestmark") and "mark.slow" in line for line in lines)
    return any(ast.unparse(decorator) == "pytest.mark.slow" for decorator in marked.decorator_list)


def quick_tests(file: Path) -> list[str]:
    """Names of a file's tests that ``make test`` runs."""
    module = ast.parse(file.read_text(encoding="utf-8"))
    slow: set[ast.AST] = {module} if is_slow(module) else set()
    found = []
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and is_slow(node):
            slow |= set(ast.walk(node))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and node not in slow:
            found.append(node.name)
    return [] if module in slow else found


@pytest.mark.parametrize("row", PROMISES)
def test_each_promise_has_a_quick_test(row: str) -> None:
    named = re.findall(r"`([\w/]+\.py)`", row.split("|")[2])
    assert named
    files = [Path(__file__).parents[1] / name for name in named]
    assert all(re.search(r"^(    )?def test_", file.read_text(encoding="utf-8"), re.M) for file in files)
    assert any(quick_tests(file) for file in files)


def test_a_row_without_a_test_is_of_the_parties_alone() -> None:
    without = [row for row in ROWS if row not in PROMISES and not row.startswith("|---")]
    assert all(
        row.startswith(("| party", "| **", "| promise", "| another user", "| kind")) or re.search(r"\d,\d{3} \|", row)
        for row in without
    )
