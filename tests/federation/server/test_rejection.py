"""Codes of rejections: each is documented, and none is used that is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from fedumm.federation.server.rejection import CODES, RejectionCode
from support.hostile import REJECTED

ROOT = Path(__file__).parents[3]


def test_every_code_has_a_meaning_and_is_in_the_documentation() -> None:
    assert set(CODES) == set(get_args(RejectionCode))
    section = (ROOT / "docs" / "aggregation.md").read_text(encoding="utf-8").split("\n## Bad updates\n")[1]
    table = section.split("**The norm**")[0]
    cells = [line.split(" | ")[1] for line in table.splitlines() if line.startswith("| ")][1:]
    assert set(re.findall(r"`(\w+)`", " ".join(cells))) == set(CODES)


def test_bad_updates_are_tried_of_all_codes_but_those_of_products_directions_and_masks() -> None:
    """tests/federation/server/test_outliers.py and tests/federation/test_secure_aggregation.py have these."""
    assert set(CODES) - set(REJECTED.values()) == {"product", "direction", "masked"}


def test_the_server_knows_no_run_folder() -> None:
    sources = (ROOT / "src" / "fedumm" / "federation" / "server").glob("*.py")
    assert not [path.name for path in sources if re.search(r"^\s*(from|import) fedumm\.report", path.read_text(), re.M)]
