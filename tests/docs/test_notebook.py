"""The notebook is short and as it was executed, and does the same again."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from docs_notebook import NOTEBOOK
from support.pages import ROOT

CODE = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
RUN = """
import json, sys
from pathlib import Path
from docs_notebook import executed
print(json.dumps([c for c in executed(Path(sys.argv[1])).cells if c.cell_type == "code"]))
"""


def last_text(cells: list[dict[str, Any]]) -> str:
    """What the last cell shows, as text."""
    return "".join(cells[-1]["outputs"][-1]["data"]["text/plain"])


def kinds(cells: list[dict[str, Any]]) -> list[set[str]]:
    """What the last output of each cell is, by type."""
    return [{kind for one in cell["outputs"][-1:] for kind in one.get("data", {})} for cell in cells]


def test_it_holds_its_output_and_no_path_of_a_machine() -> None:
    assert NOTEBOOK.stat().st_size < 200_000
    assert all(cell["outputs"] for cell in CODE)
    texts = [str(one) for cell in CODE for one in cell["outputs"] if "image/png" not in one.get("data", {})]
    places = [*(f"/{name}/" for name in ("tmp", "home", "root")), "site-packages"]
    assert not any(part in text for text in texts for part in places)
    assert {"text/html", "image/png"} <= set.union(*kinds(CODE))
    assert last_text(CODE) == "'red'"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("nbclient") is None, reason="pip install -e '.[docs]'")
def test_it_runs_again(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT / "scripts", capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    cells = json.loads(done.stdout)
    assert kinds(cells) == kinds(CODE)
    assert last_text(cells) == "'red'"
    assert (tmp_path / "runs" / "first_run" / "report.html").is_file()
