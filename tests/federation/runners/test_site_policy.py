"""What sites' administrators wrote, on processes that know each other only by their connections."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from datasets import DatasetDict, disable_progress_bars

from fedumm.data import DataRequest, load_data
from fedumm.federation.runners.received import error_of
from fedumm.report.partition_file import PARTITION
from fedumm.report.run_folder import read_records
from support.federation import Federation, export, federation

OPTIONS = [
    "--model_backend=blip_vqa", "--model_name_or_path=tiny", "--num_clients=2", "--num_rounds=1", "--threads=1",
    "--export_dir=jobs",
]  # fmt: skip
ROWS = {"site-1": 40, "site-2": 24}

pytestmark = pytest.mark.timeout(900)


def job(folder: Path, *more: str) -> None:
    export(folder, *OPTIONS, *more)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Two sites, each with data of its own that it calls ``chest_xray``."""
    disable_progress_bars()
    folder = tmp_path_factory.mktemp("sites")
    policies = {}
    whole = load_data("easy_vqa", DataRequest(columns=("image", "question", "answers"), max_train_samples=64))
    for place, (site, count) in enumerate(ROWS.items()):
        rows = whole.train.select(range(40 * place, 40 * place + count))
        DatasetDict({"train": rows, "validation": whole.eval.select(range(6))}).save_to_disk(str(folder / site))
        policies[site] = {"datasets": {"chest_xray": str(folder / site)}, "most": {"num_rounds": 5}}
    with federation(folder, policies) as running:
        yield running


@pytest.mark.slow
def test_each_site_trains_on_what_it_calls_so(tmp_path: Path, deployment: Federation) -> None:
    job(tmp_path, "--dataset=chest_xray", "--partition=own", "--name=own")
    folder = deployment.run(tmp_path / "jobs" / "own")
    kept = json.loads((folder / PARTITION).read_text())
    assert {site: own["train"] + own["heldout"] for site, own in kept["clients"].items()} == ROWS
    assert all(own["labels"] == {} for own in kept["clients"].values())
    assert list(read_records(folder))[-1]["event"] == "summary"


@pytest.mark.slow
def test_what_no_site_allows_ends_the_job_with_the_line(tmp_path: Path, deployment: Federation) -> None:
    job(tmp_path, "--dataset=records", "--name=path")
    ident = deployment.session.submit(tmp_path / "jobs" / "path")
    assert deployment.end_of(ident).status == "FINISHED:EXECUTION_EXCEPTION"
    folder = deployment.result(ident)
    assert "below 'datasets:', records: /its/folder/on/this/site" in error_of(folder)
    assert not (folder / "adapter").exists()
