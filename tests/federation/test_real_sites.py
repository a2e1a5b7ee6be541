"""An exported job on processes that know each other only by their connections."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fedumm.report.run_folder import read_records
from poc import Deployment

JOB = Path(__file__).parents[2] / "job.py"
OPTIONS = [
    "--model_backend=blip_vqa", "--model_name_or_path=tiny", "--dataset=easy_vqa", "--num_clients=2", "--num_rounds=2",
    "--max_train_samples=120", "--max_eval_samples=30", "--threads=1", "--lr=0.001",
]  # fmt: skip


@pytest.mark.timeout(300)
def test_an_exported_job_gives_the_same_bits_as_in_process(tmp_path: Path) -> None:
    for more in ("--export_dir=jobs", "--in_process"):
        done = subprocess.run(
            [sys.executable, str(JOB), *OPTIONS, more, "--name=run"], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    with Deployment(tmp_path, sites=2) as deployment:
        folder = deployment.run(tmp_path / "jobs" / "run")
    for which in ("best", "last"):
        file = Path("adapter") / which / "adapter_model.safetensors"
        assert (folder / file).read_bytes() == (tmp_path / "runs" / "run" / file).read_bytes()
    kinds = [[record["event"] for record in read_records(path)] for path in (folder, tmp_path / "runs" / "run")]
    assert kinds[0] == kinds[1]
