"""What sites' administrators wrote, on processes that know each other only by their connections."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from datasets import DatasetDict, disable_progress_bars

from fedumm.data import DataRequest, load_data
from fedumm.federation.runners.flare.site_policy import FILE
from fedumm.report.partition_file import PARTITION
from fedumm.report.run_folder import read_records
from poc import Deployment

JOB = Path(__file__).parents[3] / "job.py"
OPTIONS = [
    "--model_backend=blip_vqa", "--model_name_or_path=tiny", "--num_clients=2", "--num_rounds=1", "--threads=1",
    "--export_dir=jobs",
]  # fmt: skip
ROWS = {"site-1": 40, "site-2": 24}

pytestmark = pytest.mark.timeout(900)


def job(folder: Path, *more: str) -> None:
    done = subprocess.run([sys.executable, str(JOB), *OPTIONS, *more], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Two sites, each with data of its own that it calls ``chest_xray``."""
    disable_progress_bars()
    folder = tmp_path_factory.mktemp("poc")
    made = Deployment(folder, sites=2)
    whole = load_data("easy_vqa", DataRequest(columns=("image", "question", "answers"), max_train_samples=64))
    for place, (site, count) in enumerate(ROWS.items()):
        rows = whole.train.select(range(40 * place, 40 * place + count))
        DatasetDict({"train": rows, "validation": whole.eval.select(range(6))}).save_to_disk(str(folder / site))
        local = next(made.workspace.rglob(f"{site}/local"))
        (local / FILE).write_text(f"datasets:\n  chest_xray: {folder / site}\nmost:\n  num_rounds: 5\n")
    with made as running:
        yield running


@pytest.mark.slow
def test_each_site_trains_on_what_it_calls_so(tmp_path: Path, deployment: Deployment) -> None:
    job(tmp_path, "--dataset=chest_xray", "--partition=own", "--name=own")
    folder = deployment.run(tmp_path / "jobs" / "own")
    kept = json.loads((folder / PARTITION).read_text())
    assert {site: own["train"] + own["heldout"] for site, own in kept["clients"].items()} == ROWS
    assert all(own["labels"] == {} for own in kept["clients"].values())
    assert list(read_records(folder))[-1]["event"] == "summary"


@pytest.mark.slow
def test_what_no_site_allows_ends_the_job_with_the_line(tmp_path: Path, deployment: Deployment) -> None:
    job(tmp_path, "--dataset=records", "--name=path")
    ident = deployment.submit(tmp_path / "jobs" / "path")
    with pytest.raises(RuntimeError, match="EXECUTION_EXCEPTION"):
        deployment.nvflare("job", "wait", ident)
    deployment.nvflare("job", "download", ident, "-o", str(tmp_path / "results"))
    logs = [file.read_text() for file in (tmp_path / "results").rglob("*log*") if file.is_file()]
    assert any("below 'datasets:', records: /its/folder/on/this/site" in log for log in logs)
    assert not list((tmp_path / "results").rglob("adapter"))
