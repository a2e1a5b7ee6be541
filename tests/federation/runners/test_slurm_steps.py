"""``fedumm slurm --nodes`` on a real Slurm of two nodes: steps, the bits of a run in process, stopped and resumed.

The nodes are two ``slurmd`` of this machine.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from fedumm.cli.main import main
from fedumm.federation.server.checkpoint import Checkpoint
from fedumm.report.run_folder import read_records
from support.commands import results
from support.federation import processes_in
from support.needed import needed
from support.slurm_cluster import PROGRAMS, SlurmCluster

RUN = [
    "--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--dataset", "easy_vqa", "--num_clients", "2",
    "--num_rounds", "15", "--max_train_samples", "300", "--max_eval_samples", "40", "--lr", "1e-3", "--threads", "1",
    "--report_samples", "off",
]  # fmt: skip
SOURCE = Path(__file__).parents[3] / "src"

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.timeout(900)]


def steps(slurm: SlurmCluster, number: str) -> dict[str, str]:
    """The nodes of a job's steps, by name."""
    shown = slurm.command("squeue", "--steps", f"--jobs={number}", "--noheader", "--format=%j %N")
    return {name: node for name, node in map(str.split, shown.splitlines()) if not name.startswith(("batch", "extern"))}


def test_a_run_on_two_nodes_that_is_stopped_twice_has_the_bits_of_one_in_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """At its time limit, and by a job that goes before it. No proxy is asked for what is in the cluster."""
    needed(*PROGRAMS)
    monkeypatch.chdir(tmp_path)
    for name in ("logs", "bin"):
        (tmp_path / name).mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    cluster = ["--nodes", "2", "--gpus", "1", "--cpus", "2", "--mem", "8G", "--time", "30"]
    assert main(["slurm", *cluster, "--", *RUN, "--name", "cut"]) == 0
    run, kept = tmp_path / "runs" / "cut", tmp_path / "runs" / ".cut.kept"
    with SlurmCluster(tmp_path_factory.mktemp("slurm"), nodes=2) as slurm:
        own = {
            "PATH": f"{tmp_path / 'bin'}{os.pathsep}{slurm.env['PATH']}", "SCRATCH": "/no/scratch",
            "PYTHONPATH": str(SOURCE), "FEDUMM_CACHE": str(tmp_path / "cache"), "http_proxy": "http://127.0.0.1:9",
        }  # fmt: skip
        number = slurm.submit("cut.sbatch", cwd=tmp_path, **own)
        log = tmp_path / "logs" / f"fedumm-{number}.out"

        def done(rounds: int) -> bool:
            """Saved, too, which comes after it is shown."""
            assert slurm.job(number)["JobState"] != "FAILED", log.read_text()
            saved = [Checkpoint(folder).load() for folder in kept.glob("parties/server/*/state")]
            shown = log.exists() and re.search(rf"^ +{rounds}/15 ", log.read_text(), re.MULTILINE)
            return bool(shown) and any(state[1]["round"] >= rounds for state in saved if state)

        slurm.until(lambda: done(1), 200)
        assert steps(slurm, number) == {"server": "node-1", "site-1": "node-1", "site-2": "node-2"}
        assert kept.stat().st_mode & 0o77 == 0
        # The signal of the time limit.
        slurm.command("scancel", "--batch", "--signal=USR1", number)
        slurm.until(lambda: slurm.job(number)["JobState"] == "PENDING", 100)
        assert not (kept / "kits").exists()
        assert not processes_in(kept)
        slurm.start_now(number)
        slurm.until(lambda: done(2), 200)
        first = slurm.submit("--partition=high", "--exclusive", "--nodes=2", "--wrap=true", cwd=tmp_path)
        slurm.until(lambda: slurm.job(first)["JobState"] == "COMPLETED", 100)
        slurm.start_now(number)
        slurm.until(lambda: not slurm.command("squeue", "--noheader").strip(), 200)
        job = slurm.job(number)
        again = slurm.submit("cut.sbatch", cwd=tmp_path, **own)
        slurm.until(lambda: not slurm.command("squeue", "--noheader").strip(), 100)
        assert not processes_in(kept)
    told = log.read_text()
    assert (job["JobState"], job["Restarts"], job["NumNodes"]) == ("COMPLETED", "2", "2"), told
    assert "the run cut is queued again" in told
    assert [record["event"] for record in read_records(run)].count("resumed") == 2, told
    assert "is finished" in (tmp_path / "logs" / f"fedumm-{again}.out").read_text()
    assert not kept.exists()
    assert {f"{name}.log" for name in ("server", "site-1", "site-2")} <= {
        file.name for file in (run / "logs").iterdir()
    }
    monkeypatch.setenv("FEDUMM_CACHE", str(tmp_path / "cache"))
    assert main(["federate", *RUN, "--in_process", "--name", "straight"]) == 0
    bits, expected = results(run), results(tmp_path / "runs" / "straight")
    assert set(bits) == set(expected)
    # A card names the run as its server calls it.
    assert all(name.endswith("README.md") for name in bits if bits[name] != expected[name])
