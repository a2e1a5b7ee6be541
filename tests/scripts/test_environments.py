"""What is installed: ``requirements.txt``, ``envs/`` and ``scripts/setup_envs.sh`` say what ``pyproject.toml`` says."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "tests" / "support" / "conda_stand_in.sh"
BACKENDS = ("blip", "januspro")

# Stands for `python3 -m venv` and for the Python that it makes, which would take minutes to fill.
PYTHON = """#!/usr/bin/env bash
printf '%s\\n' "$PWD" "$@" >>"$STAND_IN_LOG"
case "$*" in
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  "-c import fedumm") [ -f "${0%/*}/filled" ] ;;
  "-m pip install "*) touch "${0%/*}/filled"; exit ${PIP_STATUS:-0} ;;
esac
"""


def test_requirements_are_those_of_the_project() -> None:
    """In both directions: no more and no less, with the same bounds."""
    tomllib = pytest.importorskip("tomllib")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    listed = [line for line in lines if line]
    assert sorted(str(Requirement(line)) for line in listed) == sorted(str(Requirement(line)) for line in declared)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_environment_holds_this_checkout_in_the_tested_versions(backend: str) -> None:
    content = yaml.safe_load((ROOT / "envs" / f"env_{backend}.yml").read_text())
    assert content["name"] == f"nvflare_{backend}"
    *_, pip = content["dependencies"]
    options = dict(line.split("=", 1) for line in pip["pip"])
    assert (ROOT / "envs" / options["--constraint"]).resolve() == ROOT / "constraints.txt"
    assert (ROOT / "envs" / options["--editable"]).resolve() == ROOT


class Setup:
    """``scripts/setup_envs.sh`` in an empty folder, with only the programs that a test gives it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.programs, self.log = folder, folder / "programs", folder / "log"
        for name in ("programs", "envs"):
            (folder / name).mkdir()
        self.script = ROOT / "scripts" / "setup_envs.sh"

    def give(self, *names: str) -> None:
        for name in names:
            shutil.copy(STAND_IN, self.programs / name)

    def give_python(self) -> None:
        (self.programs / "python3").write_text(PYTHON)
        (self.programs / "python3").chmod(0o755)

    def __call__(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        own = {
            "PATH": f"{self.programs}{os.pathsep}{self.tools}",
            "HOME": str(self.folder),
            "STAND_IN_ENVS": str(self.folder / "envs"),
            "STAND_IN_LOG": str(self.log),
            "FEDUMM_ENVS": str(self.folder / "virtual"),
        }
        return subprocess.run(
            ["bash", str(self.script), *argv], capture_output=True, text=True, timeout=60,
            env={**own, **env}, cwd=self.folder,
        )  # fmt: skip

    @property
    def tools(self) -> Path:
        """What the script and the stand-ins call, without this machine's Python and conda."""
        folder = self.folder / "tools"
        if not folder.exists():
            folder.mkdir()
            for name in ("bash", "dirname", "awk", "sed", "cat", "ls", "mkdir", "cp", "touch"):
                (folder / name).symlink_to(str(shutil.which(name)))
        return folder

    def asked(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def fine(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2
    *_, line = done.stderr.splitlines()
    assert line.startswith("setup_envs.sh: ")
    assert all(part in line for part in parts), line


@pytest.mark.parametrize(
    ("there", "create"),
    [
        (["conda", "mamba", "micromamba"], "conda env create --file"),
        (["mamba", "micromamba"], "mamba env create --file"),
        (["micromamba"], "micromamba create --yes --file"),
    ],
    ids=["conda", "mamba", "micromamba"],
)
def test_the_tool_that_is_there_makes_what_is_not(setup: Setup, there: list[str], create: str) -> None:
    setup.give(*there)
    fine(setup())
    files = [ROOT / "envs" / f"env_{backend}.yml" for backend in BACKENDS]
    assert [line for line in setup.asked() if " create " in line] == [f"{create} {file}" for file in files]
    assert sorted(p.name for p in (setup.folder / "envs").iterdir()) == ["nvflare_blip", "nvflare_januspro"]
    setup.log.unlink()
    assert "nvflare_blip is there already." in fine(setup("blip", STAND_IN_COMPLETE="yes"))
    assert not [line for line in setup.asked() if " create " in line]
    one_line(setup("blip"), "nvflare_blip is there, but incomplete", f"{there[0]} env remove --name nvflare_blip")


def test_without_conda_it_makes_virtual_environments(setup: Setup) -> None:
    setup.give_python()
    fine(setup())
    for backend in BACKENDS:
        folder = setup.folder / "virtual" / f"nvflare_{backend}"
        made = ["-m", "venv", str(folder)]
        filled = [str(ROOT / "envs"), "-m", "pip", "install", "--constraint=../constraints.txt", "--editable=.."]
        asked = "\n".join(setup.asked())
        assert "\n".join(made) in asked
        assert "\n".join(filled) in asked
    setup.log.unlink()
    assert "is there already." in fine(setup("januspro"))
    assert "pip" not in setup.asked()


def test_a_virtual_environment_can_be_asked_for(setup: Setup) -> None:
    setup.give("conda")
    setup.give_python()
    fine(setup("blip", FEDUMM_ENV_TOOL="venv"))
    assert (setup.folder / "virtual" / "nvflare_blip" / "bin" / "filled").exists()


def test_what_is_missing_is_one_line(setup: Setup, tmp_path: Path) -> None:
    one_line(setup("blip"), "no conda, mamba or micromamba, and no python3", "PYTHON")
    one_line(setup("blip", FEDUMM_ENV_TOOL="anaconda"), "FEDUMM_ENV_TOOL=anaconda is not there")
    one_line(setup("blip3o"), f"there is no {ROOT}/envs/env_blip3o.yml")
    setup.give_python()
    one_line(setup("blip", PIP_STATUS="1"), "pip could not fill", "virtual/nvflare_blip")
    (tmp_path / "alone").mkdir()
    setup.script = Path(shutil.copy(setup.script, tmp_path / "alone"))
    one_line(setup("blip"), "environment.sh is missing", "whole checkout")


def test_its_options_reach_both_tools(setup: Setup) -> None:
    """A line that was added under pip is not lost without conda."""
    checkout: Any = setup.folder / "checkout"
    for part in ("scripts", "envs", "src/fedumm/launchers"):
        shutil.copytree(ROOT / part, checkout / part)
    file = checkout / "envs" / "env_blip.yml"
    file.write_text(file.read_text() + "      # of this backend alone\n      - transformers >=5.20, <5.23\n")
    setup.script = checkout / "scripts" / "setup_envs.sh"
    setup.give_python()
    fine(setup("blip"))
    assert setup.asked()[-3:] == ["--constraint=../constraints.txt", "--editable=..", "transformers >=5.20, <5.23"]
