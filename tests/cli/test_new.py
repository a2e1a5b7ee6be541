"""``fedumm new``: what it writes passes its own test, runs as a plugin, and is good code as it stands."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fedumm.cli.main import main
from fedumm.cli.new import KINDS, write
from fedumm.config import FederateConfig, read_yaml
from fedumm.plugins import load_plugins
from fedumm.run_options import from_mapping

NAME = "my_own"


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_passes_its_own_test(tmp_path: Path, kind: str) -> None:
    assert main(["new", kind, NAME, "--dir", str(tmp_path / "plugins")]) == 0
    tested = python("-m", "pytest", "-q", "-p", "no:cacheprovider", f"test_{NAME}.py", cwd=tmp_path / "plugins")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    linted = python("-m", "ruff", "check", "--isolated", "--select", "E4,E7,E9,F,B", ".", cwd=tmp_path / "plugins")
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_that_is_shown_runs_it(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    assert main(["new", kind, NAME, "--dir", str(tmp_path)]) == 0
    shown = shlex.split(capsys.readouterr().out.splitlines()[-1])
    words = shown[shown.index("federate") :]
    few = ["--num_rounds", "1", "--max_train_samples", "40", "--max_eval_samples", "8"]
    own = [f"--{NAME}_width", "1.5"] if kind == "aggregator" else []
    assert main([*words, *few, *own, "--name", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "adapter" / "last" / "adapter_model.safetensors").is_file()
    needs = json.loads((tmp_path / "run" / "adapter" / "last" / "fedumm.json").read_text())["plugin"]
    assert needs == (f"{NAME}.py" if kind == "backend" else ""), "what the model needs, and no more"
    if own:
        options = read_yaml(tmp_path / "run" / "config.yaml")
        assert options[f"{NAME}_width"] == 1.5
        load_plugins([str(tmp_path / f"{NAME}.py")])
        assert from_mapping(FederateConfig, options).aggregator_options.my_own_width == 1.5  # type: ignore[union-attr]


def test_its_options_stand_in_the_help(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "aggregator", NAME, "--dir", str(tmp_path)]) == 0
    assert main(["federate", "--plugin", str(tmp_path / f"{NAME}.py"), "--help"]) == 0
    assert f"--{NAME}_width" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["My", "1st", "a-b", "../up", "class", "", "a" * 41, "x\n"])
def test_a_name_that_is_no_module_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["new", "source", name, "--dir", str(tmp_path)]) == 2
    assert "take small letters" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["torch", "random", "datasets", "json"])
def test_a_name_that_would_hide_a_module_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["new", "backend", name, "--dir", str(tmp_path)]) == 2
    assert "that of an installed module" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["none", "true", "model", "rows"])
def test_no_name_breaks_what_is_written(tmp_path: Path, kind: str, name: str) -> None:
    for path in write(kind, name, tmp_path):
        names = [n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
        assert len(names) == len(set(names))


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / f"test_{NAME}.py").write_text("mine")
    assert main(["new", "source", NAME, "--dir", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [f"test_{NAME}.py"]
