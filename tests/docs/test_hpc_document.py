"""``docs/hpc.md`` is true: its commands parse, and its variables are those of the script."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fedumm.cli.options import Parser, add_options, config_from
from fedumm.config import CentralConfig, FederateConfig, RunConfig

ROOT = Path(__file__).parents[2]
HPC = (ROOT / "docs" / "hpc.md").read_text(encoding="utf-8")
SCRIPT = (ROOT / "scripts" / "slurm_run.sh").read_text(encoding="utf-8")


def options_by_program() -> list[tuple[str, type[RunConfig], list[str]]]:
    """What each command of the chapter gives to a program of the project."""
    lines = "".join(re.findall(r"```bash\n(.*?)```", HPC, re.DOTALL)).replace("\\\n", " ").splitlines()
    found: list[tuple[str, type[RunConfig], list[str]]] = []
    for line in lines:
        words = [word for word in shlex.split(line, comments=True) if not re.match(r"[A-Z_]+=", word)]
        if words[:2] == ["python", "job.py"]:
            found.append((line, FederateConfig, words[2:]))
        elif words[:2] == ["python", "src/local_train.py"]:
            found.append((line, CentralConfig, words[2:]))
        elif words[:2] == ["fedumm", "download"]:
            found.append((line, FederateConfig, words[2:]))
        elif words[:1] == ["sbatch"]:
            _, *options = words[words.index("scripts/slurm_run.sh") :]
            options = ["--model_backend", *(option.replace("%a", "1") for option in options)]
            found.append((line, FederateConfig, options))
    return found


@pytest.mark.parametrize(("line", "config", "options"), options_by_program(), ids=lambda value: str(value)[:40])
def test_each_command_has_good_options(line: str, config: type[RunConfig], options: list[str]) -> None:
    parser = Parser(prog=line)
    add_options(parser, config)
    assert config_from(parser.parse_args(options), config).model_backend == "blip_vqa"


def test_all_kinds_of_commands_were_looked_at() -> None:
    assert len(options_by_program()) == 7


def test_the_variables_are_those_of_the_script() -> None:
    table = HPC.split("| variable |")[1].split("\n\n")[0]
    listed = set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))
    used = set(re.findall(r"\$\{(\w+):-", SCRIPT)) | set(re.findall(r"\b(FEDUMM_\w+)\b", SCRIPT))
    of_slurm_and_shell = {name for name in used if name.startswith("SLURM_")} | {"USER"}
    assert used - of_slurm_and_shell == listed
