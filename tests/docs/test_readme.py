"""The README is true: its commands parse, its option list is whole, its example backend runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fedumm.adapters.folder import read_folder
from fedumm.cli.options import Parser, add_options, config_from
from fedumm.config import CentralConfig, FederateConfig, RunConfig
from fedumm.report.run_folder import read_records
from fedumm.run_options import known_options

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS: dict[str, type[RunConfig]] = {"job.py": FederateConfig, "src/local_train.py": CentralConfig}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines]


def of_scripts() -> list[list[str]]:
    """Without those that take their options from a run's folder: tests/federation/test_resume.py runs them."""
    return [c for c in commands() if c[:1] == ["python"] and c[1] in PROGRAMS and "--resume" not in c]


@pytest.mark.parametrize("command", of_scripts(), ids=" ".join)
def test_each_command_has_good_options(command: list[str]) -> None:
    config = PROGRAMS[command[1]]
    parser = Parser(prog=command[1])
    add_options(parser, config)
    chosen = config_from(parser.parse_args(command[2:]), config)
    if isinstance(chosen, FederateConfig):
        assert chosen.simulator or chosen.in_process or chosen.export_dir


def test_the_scripts_and_the_console_command_are_shown() -> None:
    assert {c[1] for c in of_scripts()} == set(PROGRAMS)
    assert {c[1] for c in commands() if c[:1] == ["fedumm"]} == {"partition", "ask", "draw", "geneval", "download"}


def test_every_option_is_listed_and_every_listed_one_exists() -> None:
    section = README.split("\n## Options\n")[1].split("\n## ")[0]
    listed = set(re.findall(r"--(\w+)", section))
    known = {name for config in (FederateConfig, CentralConfig) for name in known_options(config)}
    assert listed - {"help", "config"} == known


def test_every_flag_in_the_text_exists() -> None:
    known = {name for config in (FederateConfig, CentralConfig) for name in known_options(config)}
    for_other_programs = {"help", "config", "figure", "adapter", "prompts", "detector_weights", "color_weights"}
    assert set(re.findall(r"`--(\w+)", README)) <= known | for_other_programs


def test_make_demo_runs_the_command_that_is_shown() -> None:
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    made = shlex.split(recipe[1].replace("\\\n", " ").replace("$(BIN)/", ""))
    assert made in of_scripts()


def test_linked_files_exist() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", README)
    assert links
    assert all((ROOT / link).exists() for link in links), links


def test_the_example_backend_trains_and_learns(tmp_path: Path) -> None:
    (source,) = [block for block in blocks("python") if "register_backend" in block]
    (tmp_path / "words_backend.py").write_text(source)
    (command,) = [c for c in of_scripts() if "words_backend.py" in c]
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
