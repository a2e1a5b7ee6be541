"""docs/security.md names a test beside each promise: it is there, and it runs in CI."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"
ROWS = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
PROMISES = [row for row in ROWS if ".py`" in row]


def test_there_are_promises_on_every_border() -> None:
    assert len(PROMISES) > 20


@pytest.mark.parametrize("row", PROMISES)
def test_each_promise_has_a_test(row: str) -> None:
    named = re.findall(r"`([\w/]+\.py)`", row.split("|")[2])
    assert named
    for name in named:
        text = (Path(__file__).parents[1] / name).read_text(encoding="utf-8")
        assert re.search(r"^(    )?def test_", text, re.M)
        assert "pytestmark = pytest.mark.slow" not in text


def test_a_row_without_a_test_is_of_the_parties_alone() -> None:
    without = [row for row in ROWS if row not in PROMISES and not row.startswith("|---")]
    assert all(
        row.startswith(("| party", "| **", "| promise", "| another user", "| kind")) or re.search(r"\d,\d{3} \|", row)
        for row in without
    )
