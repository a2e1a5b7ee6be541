"""The two scripts of a checkout, with a Python that has nothing installed: one line, and the command that helps."""

from __future__ import annotations

import re
import shlex
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPTIONS = ("--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--dataset", "easy_vqa")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an empty virtual environment."""
    folder = tmp_path_factory.mktemp("bare")
    venv.EnvBuilder(with_pip=False).create(folder)
    return str(folder / "bin" / "python")


@pytest.mark.parametrize(
    ("script", "missing", "flags"),
    [
        ("job.py", "fedumm", ()),
        ("job.py", "fedumm", ("-I",)),
        # Its folder, where Python looks first, is the one that has the package: only what that takes is missing.
        ("src/local_train.py", "(?!fedumm)", ()),
        ("src/local_train.py", "fedumm", ("-I",)),
    ],
)
def test_one_line_says_what_to_install(
    bare: str, script: str, missing: str, flags: tuple[str, ...], tmp_path: Path
) -> None:
    done = subprocess.run(
        [bare, *flags, str(ROOT / script), *OPTIONS], capture_output=True, text=True, cwd=tmp_path, env={}, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    message, _, command = done.stderr.removesuffix("\n").partition(" Install what it needs with: ")
    assert re.fullmatch(rf"python {script}: No module named '{missing}\w*'\.", message), message
    assert shlex.split(command) == [bare, "-m", "pip", "install", "-e", str(ROOT)]
