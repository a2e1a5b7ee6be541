"""``scripts/slurm_run.sh`` on a real Slurm: what it starts, and what becomes of jobs that are stopped."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedumm.report.run_folder import read_records
from support.commands import results
from support.needed import needed
from support.processes import processes_of
from support.slurm_cluster import PROGRAMS, SlurmCluster

ROOT = Path(__file__).parents[2]
SMALL = ("--cpus-per-task=1", "--mem=4G")
"""More than the script asks for is not on this machine; what is said to sbatch wins."""

# Stands for job.py: writes down how it was started, and with --stay goes on until it is told to stop.
PROGRAM = """
import json, os, pathlib, signal, sys
names = ("SLURM_RESTART_COUNT", "SLURM_JOB_GPUS", "HF_HOME", "FEDUMM_CACHE", "VIRTUAL_ENV", "PYTHON_MODULE")
if "--stay" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
with open("started", "a") as log:
    env = {name: os.environ[name] for name in names if name in os.environ}
    log.write(json.dumps({"argv": sys.argv[1:], "env": env, "unbuffered": sys.stdout.write_through}) + chr(10))
while "--stay" in sys.argv:
    signal.pause()
sys.exit(5 if "--fail" in sys.argv else 0)
"""

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    needed(*PROGRAMS)
    with SlurmCluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The project's folder as far as the script knows it, with a program that does nothing."""
    for part in ("scripts", "src/fedumm/launchers"):
        shutil.copytree(ROOT / part, tmp_path / "project" / part)
    (tmp_path / "project" / "job.py").write_text(PROGRAM)
    (tmp_path / "project" / "logs").mkdir()
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    return tmp_path / "project"


class Jobs:
    """Jobs of a checkout."""

    def __init__(self, slurm: SlurmCluster, checkout: Path) -> None:
        self.slurm, self.folder = slurm, checkout

    def submit(self, *argv: str, sbatch: tuple[str, ...] = (), **env: str) -> str:
        """``sbatch scripts/slurm_run.sh`` with these arguments; the job's number."""
        own = {"PATH": f"{self.folder.parent / 'bin'}{os.pathsep}{self.slurm.env['PATH']}", "SCRATCH": "/no/scratch"}
        return self.slurm.submit(*SMALL, *sbatch, "scripts/slurm_run.sh", *argv, cwd=self.folder, **{**own, **env})

    def ended(self, number: str, seconds: float = 180) -> dict[str, str]:
        """What Slurm says of the job when it is over."""
        states = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
        self.slurm.until(lambda: self.slurm.job(number)["JobState"] in states, seconds)
        return self.slurm.job(number)

    def starts(self, count: int) -> list[dict[str, Any]]:
        """How the program was started, as soon as it was that often."""
        log = self.folder / "started"
        self.slurm.until(lambda: log.exists() and log.read_text().count("\n") >= count, 180)
        found = [json.loads(line) for line in log.read_text().splitlines()]
        assert len(found) == count
        return found

    def log(self, number: str) -> str:
        return (self.folder / "logs" / f"fedumm-{number}.out").read_text()


@pytest.fixture
def jobs(slurm: SlurmCluster, checkout: Path) -> Jobs:
    return Jobs(slurm, checkout)


def test_it_starts_the_program_with_the_options_given(jobs: Jobs) -> None:
    number = jobs.submit("blip_vqa", "--num_rounds", "3", "--data_path", "two words")
    assert jobs.ended(number)["ExitCode"] == "0:0"
    (start,) = jobs.starts(1)
    assert start["argv"] == [
        "--model_backend", "blip_vqa", "--simulator", "--name", f"slurm-{number}", "--resume_if_exists",
        "--num_rounds", "3", "--data_path", "two words",
    ]  # fmt: skip
    assert start["unbuffered"]
    assert start["env"] == {"SLURM_JOB_GPUS": start["env"]["SLURM_JOB_GPUS"]}
    assert f"slurm-{number} on " in jobs.log(number)


def test_caches_are_on_scratch_or_the_nodes_own_disk(jobs: Jobs, tmp_path: Path) -> None:
    jobs.ended(jobs.submit("blip_vqa", SCRATCH=str(tmp_path)))
    jobs.ended(jobs.submit("blip_vqa", SCRATCH=str(tmp_path), SLURM_TMPDIR="/node"))
    jobs.ended(jobs.submit("blip_vqa", SCRATCH=str(tmp_path), SLURM_TMPDIR="/node", HF_HOME="/h", FEDUMM_CACHE="/f"))
    found = [(start["env"]["HF_HOME"], start["env"]["FEDUMM_CACHE"]) for start in jobs.starts(3)]
    hub = f"{tmp_path}/hf_cache"
    assert found == [(hub, f"{tmp_path}/fedumm"), (hub, "/node/fedumm"), ("/h", "/f")]


def test_the_environment_that_is_named_is_entered(jobs: Jobs, tmp_path: Path) -> None:
    import venv

    venv.EnvBuilder(with_pip=False).create(tmp_path / "own env")
    jobs.ended(jobs.submit("blip_vqa", FEDUMM_ENV=str(tmp_path / "own env")))
    venv.EnvBuilder(with_pip=False).create(jobs.folder / ".venv")
    # The python of the shell goes first, if it has fedumm; here there is none.
    jobs.ended(jobs.submit("blip_vqa", PATH="/usr/bin:/bin"))
    assert [start["env"]["VIRTUAL_ENV"] for start in jobs.starts(2)] == [
        str(tmp_path / "own env"), str(jobs.folder / ".venv"),
    ]  # fmt: skip
    number = jobs.submit("blip_vqa", FEDUMM_ENV="/no/such")
    assert jobs.ended(number)["ExitCode"] == "3:0"
    assert "no environment /no/such" in jobs.log(number)


def test_a_task_of_an_array_has_a_run_and_options_of_its_own(jobs: Jobs) -> None:
    number = jobs.submit("blip_vqa", "--seed", "%a", "--dirichlet_alpha", "0.%a", sbatch=("--array=1,5",))
    runs = {start["argv"][4]: (start["argv"][7], start["argv"][9]) for start in jobs.starts(2)}
    assert runs == {f"slurm-{number}_1": ("1", "0.1"), f"slurm-{number}_5": ("5", "0.5")}


def test_what_is_wrong_is_one_line(jobs: Jobs, tmp_path: Path) -> None:
    number = jobs.submit()
    assert jobs.ended(number)["ExitCode"] == "2:0"
    assert jobs.log(number) == (
        "slurm_run.sh: say which backend: sbatch scripts/slurm_run.sh BACKEND, for example blip_vqa.\n"
    )
    (tmp_path / "logs").mkdir()
    number = jobs.slurm.submit(*SMALL, str(jobs.folder / "scripts" / "slurm_run.sh"), "blip_vqa", cwd=tmp_path)
    assert jobs.ended(number)["ExitCode"] == "2:0"
    log = (tmp_path / "logs" / f"fedumm-{number}.out").read_text()
    assert log.startswith(f"slurm_run.sh: {tmp_path} has no job.py: ")
    assert log.endswith("set FEDUMM_ROOT to it.\n")
    moved = {"FEDUMM_ROOT": str(jobs.folder), "PATH": f"{tmp_path / 'bin'}{os.pathsep}{jobs.slurm.env['PATH']}"}
    number = jobs.slurm.submit(*SMALL, str(jobs.folder / "scripts" / "slurm_run.sh"), "blip_vqa", cwd=tmp_path, **moved)
    assert jobs.ended(number)["ExitCode"] == "0:0"


def test_a_failure_is_the_jobs_and_does_not_start_it_again(jobs: Jobs) -> None:
    number = jobs.submit("blip_vqa", "--fail")
    job = jobs.ended(number)
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("FAILED", "5:0", "0")


SOON = ("--time=1", "--signal=B:USR1@50")
"""The signal of the time limit, a few seconds after the start."""


@pytest.mark.slow
def test_a_job_at_its_time_limit_goes_on_in_another(jobs: Jobs) -> None:
    number = jobs.submit("blip_vqa", "--stay", sbatch=SOON)
    jobs.starts(1)
    jobs.slurm.start_now(number)
    first, second = jobs.starts(2)
    assert first["argv"] == second["argv"]
    assert second["env"]["SLURM_RESTART_COUNT"] == "1"
    jobs.slurm.command("scancel", number)
    assert f"time limit: slurm-{number} is queued again" in jobs.log(number)


@pytest.mark.slow
def test_but_not_for_ever(jobs: Jobs) -> None:
    number = jobs.submit("blip_vqa", "--stay", FEDUMM_MAX_RESTARTS="0")
    jobs.starts(1)
    jobs.slurm.command("scancel", "--batch", "--signal=USR1", number)
    job = jobs.ended(number)
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("FAILED", "2:0", "0")
    assert f"slurm-{number} is not finished after 0 restarts" in jobs.log(number)


@pytest.mark.parametrize("how", [(), ("--batch", "--signal=TERM")], ids=["scancel", "SIGTERM"])
def test_a_job_that_was_cancelled_stays_so(jobs: Jobs, how: tuple[str, ...]) -> None:
    number = jobs.submit("blip_vqa", "--stay")
    jobs.starts(1)
    jobs.slurm.command("scancel", *how, number)
    job = jobs.ended(number)
    assert (job["JobState"], job["Restarts"]) == ("FAILED" if how else "CANCELLED", "0")
    if how:
        assert job["ExitCode"] == "143:0"


RUN = (
    "--model_name_or_path", "tiny", "--dataset", "easy_vqa", "--num_clients", "2", "--num_rounds", "6",
    "--max_train_samples", "600", "--max_eval_samples", "40", "--lr", "1e-3", "--aggregator", "fedadam",
    "--gpu", "cpu", "--threads", "1", "--hosts", "1",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_a_run_that_gives_way_in_mid_round_ends_with_the_same_bits(jobs: Jobs, tmp_path: Path) -> None:
    """The real program, in FLARE's simulator: a job of a partition with priority cancels it, Slurm starts it again."""
    shutil.copy(ROOT / "job.py", jobs.folder)
    number = jobs.submit("blip_vqa", *RUN, FEDUMM_CACHE=str(tmp_path / "cache"))
    folder = jobs.folder / "runs" / f"slurm-{number}"
    jobs.slurm.until(lambda: rounds(folder) or jobs.slurm.job(number)["JobState"] == "FAILED", 180)
    assert rounds(folder), jobs.log(number)
    wanted = ("--partition=high", "--gres=gpu:2", "--output=/dev/null", "--wrap", "true")
    jobs.ended(jobs.slurm.submit(*wanted, cwd=tmp_path))
    jobs.slurm.start_now(number)
    job = jobs.ended(number, 240)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1"), jobs.log(number)
    (resumed,) = [r["round"] for r in read_records(folder) if r["event"] == "resumed"]
    assert 1 <= resumed < 6
    assert rounds(folder) == [1, 2, 3, 4, 5, 6]
    assert "Finished rounds are kept" in jobs.log(number)
    assert not processes_of(folder)

    straight = tmp_path / "straight"
    command = [sys.executable, ROOT / "job.py", "--model_backend", "blip_vqa", *RUN, "--in_process", "--name", straight]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert results(folder) == results(straight)


def rounds(folder: Path) -> list[int]:
    """The finished rounds of a run."""
    if not (folder / "metrics.jsonl").exists():
        return []
    return [record["round"] for record in read_records(folder) if record["event"] == "round"]
