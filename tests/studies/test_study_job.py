"""The array job of a study on a real Slurm: its tasks are the runs, and one at its time limit resumes."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest

from fedumm.cli.main import main
from fedumm.report.run_folder import read_records
from support.needed import needed
from support.slurm_cluster import PROGRAMS, SlurmCluster

STUDY = [
    "--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--dataset", "easy_vqa", "--num_rounds", "6",
    "--max_train_samples", "600", "--max_eval_samples", "40", "--lr", "1e-3", "--gpu", "cpu", "--threads", "1",
    "--hosts", "1", "--seed", "1,2", "--compare", "federated,central",
]  # fmt: skip
SOURCE = Path(__file__).parents[2] / "src"


def rounds(folder: Path) -> int:
    if not (folder / "metrics.jsonl").exists():
        return 0
    return sum(record["event"] == "round" for record in read_records(folder))


@pytest.mark.slow
@pytest.mark.slurm
@pytest.mark.timeout(500)
def test_the_array_makes_the_table_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    needed(*PROGRAMS)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").mkdir()
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    assert main(["sweep", *STUDY, "--name", "array", "--slurm"]) == 0
    with SlurmCluster(tmp_path_factory.mktemp("slurm")) as slurm:
        own = {
            "PATH": f"{tmp_path / 'bin'}{os.pathsep}{slurm.env['PATH']}", "SCRATCH": "/no/scratch",
            "PYTHONPATH": str(SOURCE), "FEDUMM_CACHE": str(tmp_path / "cache"),
        }  # fmt: skip
        number = slurm.submit("--cpus-per-task=1", "--mem=4G", "runs/array/slurm.sh", cwd=tmp_path, **own)
        cut = tmp_path / "runs" / "array" / "federated-k2-alpha0-seed2-lr0.001"
        slurm.until(lambda: rounds(cut), 300)
        # The signal of the time limit.
        slurm.command("scancel", "--batch", "--signal=USR1", f"{number}_4")
        slurm.start_now(f"{number}_4")
        slurm.until(lambda: not slurm.command("squeue", "--noheader").strip(), 300)
        log = (tmp_path / "logs" / f"fedumm-study-{number}_4.out").read_text()
    assert "run 4 is queued again" in log
    assert [r["event"] for r in read_records(cut)].count("resumed") == 1, log
    assert main(["sweep", "--collect", "array"]) == 0
    assert main(["sweep", *STUDY, "--name", "straight"]) == 0
    tables = [(tmp_path / "runs" / name / "table.csv").read_bytes() for name in ("array", "straight")]
    assert tables[0] == tables[1]
