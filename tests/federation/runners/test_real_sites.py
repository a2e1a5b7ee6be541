"""Exported jobs on processes that know each other only by their connections."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedumm.errors import FedummError
from fedumm.federation.runners.flare.deployment import Deployment
from fedumm.federation.runners.flare.kits import provision
from fedumm.plugins import load_plugins
from fedumm.report.run_folder import read_records
from support.federation import Federation, export, federation, training_process
from support.processes import wait_for

OPTIONS = [
    "--model_backend=blip_vqa", "--model_name_or_path=tiny", "--dataset=easy_vqa", "--num_clients=2", "--num_rounds=2",
    "--max_train_samples=120", "--max_eval_samples=30", "--threads=1", "--lr=0.001",
]  # fmt: skip

pytestmark = pytest.mark.timeout(900)


def job(folder: Path, *more: str) -> None:
    export(folder, *OPTIONS, *more)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Server and two sites, which have no policy. They know of an environment for BLIP: this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDUMM_ENV_BLIP", sys.prefix)
        with federation(tmp_path_factory.mktemp("sites"), {"site-1": {}, "site-2": {}}) as running:
            yield running


@pytest.mark.slow
def test_an_exported_job_gives_the_same_bits_as_in_process(tmp_path: Path, deployment: Federation) -> None:
    """Also where its hosts run in the backend's own environment."""
    job(tmp_path, "--export_dir=jobs", "--name=run", "--use_env_script")
    job(tmp_path, "--in_process", "--name=run")
    folder = deployment.run(tmp_path / "jobs" / "run")
    for which in ("best", "last"):
        file = Path("adapter") / which / "adapter_model.safetensors"
        assert (folder / file).read_bytes() == (tmp_path / "runs" / "run" / file).read_bytes()
    kinds = [[record["event"] for record in read_records(path)] for path in (folder, tmp_path / "runs" / "run")]
    assert kinds[0] == kinds[1]


@pytest.mark.slow
def test_a_killed_host_costs_its_site_one_round_and_not_the_job(tmp_path: Path, deployment: Federation) -> None:
    job(tmp_path, "--export_dir=jobs", "--name=long", "--num_rounds=4", "--local_epochs=8")
    ident = deployment.session.submit(tmp_path / "jobs" / "long")
    try:
        wait_for(lambda: deployment.records(ident, "round"), 120)
        killed = training_process(deployment.kits.sites["site-2"])
        assert killed is not None
        killed.kill()
    finally:
        folder = deployment.result(ident)
    records = list(read_records(folder))
    (rejected,) = [r for r in records if r["event"] == "client" and r["rejected"]]
    assert (rejected["client"], rejected["rejected"]) == ("site-2", "failed")
    assert "the process of site-2 died (SIGKILL" in rejected["reason"]
    assert [r["clients"] for r in records if r["event"] == "round"].count(1) == 1
    assert records[-1]["event"] == "summary"


@pytest.mark.slow
def test_a_job_that_names_another_callable_of_ours_runs_nothing(tmp_path: Path, deployment: Federation) -> None:
    """A file that comes as data of the job, and a function of ours that would run it."""
    job(tmp_path, "--export_dir=jobs", "--name=attack")
    data = tmp_path / "jobs" / "attack" / "app" / "config" / "data.py"
    data.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    attack = {"id": "x", "path": "fedumm.plugins.load_plugins", "args": {"files": [str(data)]}}
    for role in ("server", "client"):
        file = data.with_name(f"config_fed_{role}.json")
        content = json.loads(file.read_text())
        content["components"] = [*content.get("components", []), attack]
        file.write_text(json.dumps(content))
    ident = deployment.session.submit(tmp_path / "jobs" / "attack")
    deployment.end_of(ident)
    assert not (tmp_path / "ran").exists()
    logs = [path.read_text(errors="replace") for path in deployment.folder.rglob("*log*") if path.is_file()]
    assert any(ident in text and "load_plugins' at config path" in text for text in logs)
    with contextlib.suppress(FedummError):  # it registers no backend
        load_plugins([str(data)])
    assert (tmp_path / "ran").exists(), "it would have run"


def test_a_server_that_can_not_start_is_told_with_its_last_line_and_leaves_no_process(tmp_path: Path) -> None:
    """Its kit is broken."""
    kits = provision(tmp_path, {"site-1": {}})
    shutil.rmtree(kits.server / "startup")
    with pytest.raises(FedummError, match=r"The process of server ended with status \d+; its last line: "):  # noqa: SIM117
        with Deployment({"server": kits.server}, tmp_path) as broken:
            wait_for(broken.check, 100)
    assert broken.processes["server"].poll() is not None
