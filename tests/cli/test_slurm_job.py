"""The script of ``fedumm slurm`` on a real Slurm: a run that is stopped at its time limit loses nothing."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest

from fedumm.cli.main import main
from fedumm.report.run_folder import read_records
from support.commands import results
from support.needed import needed
from support.slurm_cluster import PROGRAMS, SlurmCluster

RUN = [
    "--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--dataset", "easy_vqa", "--num_clients", "2",
    "--num_rounds", "4", "--max_train_samples", "400", "--max_eval_samples", "40", "--lr", "1e-3", "--gpu", "cpu",
    "--threads", "1", "--hosts", "2", "--report_samples", "off",
]  # fmt: skip
SOURCE = Path(__file__).parents[2] / "src"


def events(folder: Path) -> list[str]:
    return [record["event"] for record in read_records(folder)] if (folder / "metrics.jsonl").exists() else []


@pytest.mark.slow
@pytest.mark.slurm
@pytest.mark.timeout(560)
def test_a_run_at_its_time_limit_is_queued_again_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    needed(*PROGRAMS)
    monkeypatch.chdir(tmp_path)
    for name in ("logs", "bin"):
        (tmp_path / name).mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    assert (
        main(["slurm", "--gpus", "0", "--cpus", "2", "--mem", "8G", "--time", "30", "--", *RUN, "--name", "cut"]) == 0
    )
    with SlurmCluster(tmp_path_factory.mktemp("slurm")) as slurm:
        own = {
            "PATH": f"{tmp_path / 'bin'}{os.pathsep}{slurm.env['PATH']}", "SCRATCH": "/no/scratch",
            "PYTHONPATH": str(SOURCE), "FEDUMM_CACHE": str(tmp_path / "cache"),
        }  # fmt: skip
        number = slurm.submit("cut.sbatch", cwd=tmp_path, **own)
        log, cut = tmp_path / "logs" / f"fedumm-{number}.out", tmp_path / "runs" / "cut"
        slurm.until(lambda: "round" in events(cut), 200)
        # The signal of the time limit.
        slurm.command("scancel", "--batch", "--signal=USR1", number)
        slurm.start_now(number)
        slurm.until(lambda: not slurm.command("squeue", "--noheader").strip(), 200)
        job = slurm.job(number)
        again = slurm.submit("cut.sbatch", cwd=tmp_path, **own)
        slurm.until(lambda: not slurm.command("squeue", "--noheader").strip(), 100)
    told = log.read_text()
    assert "the run cut is queued again" in told
    assert (job["JobState"], job["Restarts"], job["NumNodes"]) == ("COMPLETED", "1", "1"), told
    assert events(cut).count("resumed") == 1, told
    assert "is finished" in (tmp_path / "logs" / f"fedumm-{again}.out").read_text()
    monkeypatch.setenv("FEDUMM_CACHE", str(tmp_path / "cache"))
    assert main(["federate", *RUN, "--in_process", "--name", "straight"]) == 0
    assert results(cut) == results(tmp_path / "runs" / "straight")
