"""The launchers run Python in the environment that is meant, or say in one line why they can't."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "tests" / "support" / "conda_stand_in.sh"
LAUNCHERS = {"blip": "FEDUMM_ENV_BLIP", "januspro": "FEDUMM_ENV_JANUSPRO"}
REPORT = """
import json, os, sys
print(json.dumps({
    "argv": sys.argv[1:], "prefix": os.environ.get("VIRTUAL_ENV") or os.environ.get("CONDA_PREFIX"),
    "unbuffered": sys.stdout.write_through, "pid": os.getpid(),
}))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder for programs; no conda is to be found but in it."""
    folder = tmp_path / "programs"
    folder.mkdir()
    return folder


def stand_in(path: Path, name: str, *environments: str) -> None:
    """A conda, mamba or micromamba that has these environments."""
    shutil.copy(STAND_IN, path / name)
    for environment in environments:
        python = path.parent / "envs" / environment / "bin" / "python"
        (python.parents[1] / "conda-meta").mkdir(parents=True)
        python.parent.mkdir()
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        python.chmod(0o755)


def launch(path: Path, name: str, *argv: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """``bash scripts/launch_NAME.sh`` with these arguments, from another folder."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("CONDA", "MAMBA", "FEDUMM", "VIRTUAL_ENV"))}
    own = {
        "PATH": f"{path}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "FEDUMM_ENVS": str(path.parent / "virtual"),
        "STAND_IN_ENVS": str(path.parent / "envs"),
        "STAND_IN_LOG": str(path.parent / "log"),
    }
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / f"launch_{name}.sh"), *argv],
        capture_output=True, text=True, timeout=60, env={**inherited, **own, **env}, cwd=cwd or path.parent,
    )  # fmt: skip


def virtual(folder: Path) -> Path:
    venv.EnvBuilder(with_pip=False).create(folder)
    return folder


def report(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert (done.returncode, done.stderr) == (0, "")
    told: dict[str, object] = json.loads(done.stdout)
    assert told["unbuffered"] is True
    return told


ARGUMENTS = ["two words", "it's", '"quoted"', "*", "$HOME", "", "-c"]


@pytest.mark.parametrize("tool", ["conda", "mamba", "micromamba"])
@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_conda_environment_is_activated_by_its_name(path: Path, name: str, tool: str) -> None:
    """Though the hook reads a variable that is not set; what it prints is not the program's output."""
    stand_in(path, tool, f"nvflare_{name}", "mine")
    told = report(launch(path, name, "-c", REPORT, *ARGUMENTS))
    assert told["argv"] == ARGUMENTS
    assert told["prefix"] == str(path.parent / "envs" / f"nvflare_{name}")
    assert report(launch(path, name, "-c", REPORT, **{LAUNCHERS[name]: "mine"}))["prefix"].endswith("/mine")


def test_a_conda_environment_is_activated_by_its_folder(path: Path) -> None:
    stand_in(path, "conda", "one with spaces")
    folder = str(path.parent / "envs" / "one with spaces")
    assert report(launch(path, "blip", "-c", REPORT, FEDUMM_ENV_BLIP=folder))["prefix"] == folder


def test_conda_is_found_where_it_is_a_function_of_the_users_shell(path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    stand_in(tmp_path / "elsewhere", "conda", "nvflare_blip")
    assert report(launch(path, "blip", "-c", REPORT, CONDA_EXE=str(tmp_path / "elsewhere" / "conda")))["prefix"]


def test_the_tool_that_is_named_is_used(path: Path) -> None:
    for tool in ("conda", "micromamba"):
        stand_in(path, tool, *(["nvflare_blip"] if tool == "conda" else []))
    report(launch(path, "blip", "-c", REPORT, FEDUMM_ENV_TOOL="micromamba"))
    assert (path.parent / "log").read_text() == "micromamba shell hook --shell bash\n"


def test_a_virtual_environment_is_found_by_name_and_by_folder(path: Path) -> None:
    by_name = virtual(path.parent / "virtual" / "nvflare_blip")
    by_folder = virtual(path.parent / "a b" / "venv")
    assert report(launch(path, "blip", "-c", REPORT, *ARGUMENTS))["prefix"] == str(by_name)
    found = report(launch(path, "blip", "-c", REPORT, FEDUMM_ENV_BLIP=str(by_folder)))
    assert found["prefix"] == str(by_folder)
    inside = launch(path, "blip", "-c", REPORT, cwd=by_folder.parent, FEDUMM_ENV_BLIP="./venv")
    assert report(inside)["prefix"] == str(by_folder)


def test_python_takes_the_launchers_place(path: Path) -> None:
    """So that its exit status and the signals are its own."""
    virtual(path.parent / "virtual" / "nvflare_blip")
    assert launch(path, "blip", "-c", "raise SystemExit(7)").returncode == 7
    suicide = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    assert launch(path, "blip", "-c", suicide).returncode == -signal.SIGTERM


def no_environment(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    assert all(part in done.stderr for part in parts), done.stderr


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_missing_environment_is_one_line_and_status_3(path: Path, name: str) -> None:
    what_to_do = (f"launch_{name}.sh: no environment ", "bash scripts/setup_envs.sh", LAUNCHERS[name])
    no_environment(launch(path, name, "-c", ""), f"nvflare_{name}", "is not in", *what_to_do)
    no_environment(launch(path, name, "-c", "", **{LAUNCHERS[name]: "/no/such"}), "/no/such", *what_to_do)
    no_environment(launch(path, name, "-c", "", FEDUMM_ENV_TOOL="anaconda"), "anaconda is not there", *what_to_do)
    stand_in(path, "conda", "another")
    # Also where another one is active.
    active = {"CONDA_PREFIX": str(path.parent / "envs" / "another")}
    no_environment(launch(path, name, "-c", "", **active), f"Could not find conda environment: nvflare_{name}")


def test_an_environment_without_python_does_not_run_another(path: Path) -> None:
    stand_in(path, "conda", "nvflare_blip")
    (path.parent / "envs" / "nvflare_blip" / "bin" / "python").unlink()
    no_environment(launch(path, "blip", "-c", ""), "has no python")


def test_a_virtual_environment_that_was_moved_does_not_run_another(path: Path) -> None:
    virtual(path.parent / "old").rename(path.parent / "new")
    no_environment(launch(path, "blip", "-c", "", FEDUMM_ENV_BLIP=str(path.parent / "new")), "was moved")


def test_an_installed_package_has_the_launchers() -> None:
    """A site runs these, never what came with a job."""
    tomllib = pytest.importorskip("tomllib")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    package = ROOT / "src" / "fedumm"
    shipped = {file.name for pattern in settings["package-data"]["fedumm"] for file in package.glob(pattern)}
    assert {"environment.sh", *(f"launch_{name}.sh" for name in LAUNCHERS)} <= shipped
