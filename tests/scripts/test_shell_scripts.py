"""Every shell script is well-formed, and shellcheck has nothing to say about it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.needed import needed

ROOT = Path(__file__).parents[2]
FOLDERS = ("scripts", "src/fedumm", "tests")
SCRIPTS = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.sh"))


def names(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def test_the_scripts_that_are_promised_are_there() -> None:
    promised = {"setup_envs", "launch_blip", "launch_januspro", "slurm_run"}
    assert {file.stem for file in SCRIPTS if file.parent == ROOT / "scripts"} == promised


@pytest.mark.parametrize("script", SCRIPTS, ids=names)
def test_bash_can_read_it(script: Path) -> None:
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run([needed("shellcheck"), "-x", *SCRIPTS, ROOT / ".ci" / "run"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
