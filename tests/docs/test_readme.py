"""The README is a first page, and its example runs as it says; so does the example of a backend."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from fedumm.adapters.folder import read_folder
from fedumm.report.run_folder import read_records
from support.pages import ROOT, blocks, commands

README = ROOT / "README.md"
MODELS = ROOT / "docs" / "models.md"


def test_it_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 250


def test_make_demo_runs_the_command_that_is_shown() -> None:
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    made = shlex.split(recipe[1].replace("\\\n", " ").replace("$(BIN)/", ""))
    assert made in commands(README)


def test_the_example_backend_trains_and_learns(tmp_path: Path) -> None:
    (source,) = [block for block in blocks(MODELS, "python") if "register_backend" in block]
    (tmp_path / "words_backend.py").write_text(source)
    (command,) = [words for words in commands(MODELS) if "words_backend.py" in words]
    small = ["--max_train_samples", "1500", "--max_eval_samples", "300", "--name", "words"]
    result = subprocess.run(
        [sys.executable, str(ROOT / "job.py"), *command[2:], *small],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    (summary,) = [r for r in read_records(tmp_path / "runs" / "words") if r["event"] == "summary"]
    assert summary["best"]["test"] > summary["untrained"]["test"] + 0.2
    assert set(read_folder(tmp_path / "runs" / "words" / "adapter" / "best")[0]) == {"answer.weight", "answer.bias"}
