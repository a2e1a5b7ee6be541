"""The shell commands of a page, carried out in its order in a folder that looks like a checkout, on small models."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fedumm.cli.main import main, run
from support.pages import ROOT

LINKED = (
    "job.py",
    "src",
    "scripts",
    "configs",
    "envs",
    "constraints.txt",
    "constraints-lowest.txt",
    "pyproject.toml",
    "Makefile",
)
FEW = ("--max_train_samples", "60", "--max_eval_samples", "20")
ROUNDS = ("--num_rounds", "1", "--local_epochs", "1", "--report_samples", "off")
DRAWN = ("--geneval_prompts", "4")
PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "fedumm": main,
    "python job.py": lambda argv: run("federate", argv, "python job.py"),
    "python src/local_train.py": lambda argv: run("train", argv, "python src/local_train.py"),
}
SERVED = "fedumm play"
"""What goes on until Ctrl-C."""

# Stands for sbatch: the script runs here and now; of an array the first task.
SBATCH = """#!/usr/bin/env bash
set -euo pipefail
array=
while [[ $1 == --* ]]; do case $1 in --array=*) array=${1#--array=} ;; esac; shift; done
[ -n "$array" ] || array=$(sed -n 's/^#SBATCH --array=//p' "$1")
export SLURM_JOB_ID=$$ SLURM_SUBMIT_DIR=$PWD
if [ -n "$array" ]; then export SLURM_ARRAY_JOB_ID=$$ SLURM_ARRAY_TASK_ID=${array%%[,-]*}; fi
exec bash "$@"
"""


@dataclass(frozen=True)
class Shown:
    """A command as a page shows it, on one line, and the lines of output below its block (of its block's last one)."""

    text: str
    output: tuple[str, ...] = ()


def shown(page: Path) -> list[Shown]:
    """All commands of a page's shell blocks, in its order."""
    text = page.read_text(encoding="utf-8")
    fences = list(re.finditer(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    found = []
    for number, fence in enumerate(fences):
        if fence[1] != "bash":
            continue
        after = fences[number + 1] if number + 1 < len(fences) else None
        below = ()
        if after is not None and not after[1] and "\n#" not in text[fence.end() : after.start()]:
            below = tuple(line for line in after[2].splitlines() if line.strip() not in ("", "..."))
        *first, last = _statements(fence[2])
        found += [*map(Shown, first), Shown(last, below)]
    return found


def _statements(block: str) -> list[str]:
    """The commands of a block, without comments; a quoted text may have several lines."""
    found, open_text = [], ""
    for line in block.replace("\\\n", " ").splitlines():
        whole = open_text + line
        try:
            words = shlex.split(whole, comments=True)
        except ValueError:
            open_text = whole + "\n"
            continue
        open_text = ""
        if words:
            bare = whole if "\n" in whole else re.sub(r"\s+#.*$", "", whole)
            found.append(bare if "\n" in bare else " ".join(bare.split()))
    return found


def structure(line: str) -> str:
    """A line without what differs from run to run: numbers, widths."""
    line = re.sub(r"\d[\d,.]*(e-?\d+)?", "#", line)
    return " ".join(re.sub(r"([━─-])[━─-]+", r"\1", line).split())


@dataclass
class Checkout:
    """A folder in which commands of pages run.

    Args:
        folder: is made.
        run: the folder of a finished run, which stands for NAME until the page makes its own; None if none is needed.
        cache: of features.
    """

    folder: Path
    run: Path | None
    cache: Path
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "runs").mkdir(parents=True)
        for name in LINKED:
            (self.folder / name).symlink_to(ROOT / name)
        # It writes beside itself.
        shutil.copytree(ROOT / "benchmarks", self.folder / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
        programs = self.folder / "bin"
        programs.mkdir()
        python = shlex.quote(sys.executable)
        scripts = {
            "python": f'#!/bin/sh\nexec {python} "$@"\n',
            "python3": f'#!/bin/sh\nexec {python} "$@"\n',
            "nvflare": f'#!/bin/sh\nexec {python} -m nvflare.cli "$@"\n',
            "fedumm": f'#!/bin/sh\nexec {python} -m fedumm "$@"\n',
            "sbatch": SBATCH,
            "conda": (ROOT / "tests" / "support" / "conda_stand_in.sh").read_text(encoding="utf-8"),
        }
        for name, text in scripts.items():
            (programs / name).write_text(text, encoding="utf-8")
            (programs / name).chmod(0o755)
        for name in ("envs_of_conda", "home"):
            (self.folder / name).mkdir()
        if self.run:
            shutil.copytree(self.run, self.folder / "runs" / "given")
        paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "FEDUMM_", "HF_"))},
            "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]), "PYTHONPATH": os.pathsep.join(paths),
            "FEDUMM_CACHE": str(self.cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200",
            "STAND_IN_ENVS": str(self.folder / "envs_of_conda"), "STAND_IN_LOG": str(self.folder / "conda.log"),
            "USER": "user", "PYTHONUNBUFFERED": "1", "HOME": str(self.folder / "home"),
            "SCRATCH": str(self.folder / "scratch"), "FEDUMM_RUNNER": "--in_process",
        }  # fmt: skip

    def carry_out(self, command: Shown, stand_ins: Mapping[str, str]) -> None:
        """Run ``command``, each of ``stand_ins`` in it replaced; it must succeed, and print what its page shows.

        Raises:
            AssertionError: it does not.
        """
        if match := re.fullmatch(r"export (\w+)=(\S+)", command.text):
            self.env[match[1]] = self._here(match[2], stand_ins)
            return
        text = self.made(command.text, stand_ins)
        if text.startswith(SERVED):
            self._served(text)
            return
        status, said = self._own(text) or self._by_shell(text)
        assert status == 0, f"{command.text}\n{text}\n{said}"
        lines = set(map(structure, said.splitlines()))
        missing = [line for line in command.output if structure(line) not in lines]
        assert not missing, f"{command.text}\ndoes not print\n" + "\n".join(missing) + f"\nbut\n{said}"

    def _own(self, text: str) -> tuple[int, str] | None:
        """Status and output of a command that is fedumm's alone, in this process, where torch is there already."""
        for start, program in PROGRAMS.items():
            # A run that was stopped goes on in a process of its own.
            if not text.startswith(f"{start} ") or "&&" in text or "--resume" in text:
                continue
            argv, out = shlex.split(text.removeprefix(start)), io.StringIO()
            with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(out):
                patch.chdir(self.folder)
                patch.setattr("sys.stdin", io.StringIO("y\n"))
                for name, value in self.env.items():
                    patch.setenv(name, value)
                try:
                    return program(argv), out.getvalue()
                except SystemExit as end:
                    return int(end.code or 0), out.getvalue()
        return None

    def _by_shell(self, text: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-c", text], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, timeout=1800, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.returncode, done.stdout

    def made(self, text: str, stand_ins: Mapping[str, str]) -> str:
        """``text`` on small models and data, of runs that are there."""
        text = self._here(text, stand_ins)
        words = shlex.split(text, comments=True)
        program = " ".join(word for word in words if not re.match(r"[A-Z_]+=", word))
        federates = (
            "python job.py",
            "fedumm federate",
            "fedumm slurm",
            "sbatch scripts/slurm_run.sh",
            "sbatch --array",
        )
        if program.startswith(federates) and not {"--resume", "--help", "--export_dir"} & set(words):
            return f"{text} {shlex.join([*FEW, *ROUNDS, *_published(words)])}"
        if program.startswith(("python src/local_train.py", "fedumm train")):
            return f"{text} {shlex.join([*FEW, '--num_epochs', '1', *_published(words)])}"
        if program.startswith("fedumm sweep") and "--collect" not in words:
            return f"{text} {shlex.join([*FEW, '--num_rounds', '1', '--report_samples', 'off', *_published(words)])}"
        if program.startswith("fedumm download"):
            return f"{text} {shlex.join([*FEW, *_published(words)])}"
        return text

    def _here(self, text: str, stand_ins: Mapping[str, str]) -> str:
        for old, new in {"/scratch/$USER": "scratch", "IMAGE": "picture.png", **stand_ins}.items():
            text = text.replace(old, new)
        made = sorted((self.folder / "runs").glob("*/metrics.jsonl"), key=lambda file: file.stat().st_mtime_ns)
        text = re.sub(r"\bNAME-1\b", "given", text)
        return re.sub(r"\bNAME(-2)?\b", made[-1].parent.name if made else "NAME", text)

    def _served(self, text: str) -> None:
        """Run ``text`` until it tells an address, then end it. (Some shells' children do not hear Ctrl-C.)"""
        with subprocess.Popen(
            ["bash", "-c", f"exec {text}"], cwd=self.folder, env=self.env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            told = ""
            for line in process.stdout:
                told += line
                if "http://" in line:
                    process.terminate()
            process.wait(60)
        assert "http://" in told, told
        assert process.returncode in (0, 128 + signal.SIGTERM), told


def _published(words: list[str]) -> list[str]:
    """What takes the place of a published model and its data; and few drawings, of a model that draws."""
    model = words[words.index("--model_name_or_path") + 1] if "--model_name_or_path" in words else ""
    draws = any("januspro" in word for word in words)
    few = [*DRAWN] if draws and {"unified", "t2i"} & set(words) else []
    if model and "/" not in model:
        return few
    if "hf_vlm" in words:
        return ["--model_name_or_path", "small_vlm"]
    data = [] if "--dataset" in words else ["--dataset", "shapes" if draws else "easy_vqa"]
    return ["--model_name_or_path", "tiny", *data, *few]


def installed(name: str) -> bool:
    """Whether a library is there."""
    return importlib.util.find_spec(name) is not None
