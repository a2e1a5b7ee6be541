"""Exported jobs on processes that know each other only by their connections."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from fedumm.errors import FedummError
from fedumm.plugins import load_plugins
from fedumm.report.run_folder import read_records
from poc import Deployment
from support.processes import wait_for

JOB = Path(__file__).parents[3] / "job.py"
OPTIONS = [
    "--model_backend=blip_vqa", "--model_name_or_path=tiny", "--dataset=easy_vqa", "--num_clients=2", "--num_rounds=2",
    "--max_train_samples=120", "--max_eval_samples=30", "--threads=1", "--lr=0.001",
]  # fmt: skip

pytestmark = pytest.mark.timeout(900)


def job(folder: Path, *more: str) -> None:
    done = subprocess.run([sys.executable, str(JOB), *OPTIONS, *more], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Server and two sites. The sites know of an environment for BLIP: this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDUMM_ENV_BLIP", sys.prefix)
        with Deployment(tmp_path_factory.mktemp("poc"), sites=2) as running:
            yield running


def test_an_exported_job_gives_the_same_bits_as_in_process(tmp_path: Path, deployment: Deployment) -> None:
    """Also where its hosts run in the backend's own environment."""
    job(tmp_path, "--export_dir=jobs", "--name=run", "--use_env_script")
    job(tmp_path, "--in_process", "--name=run")
    folder = deployment.run(tmp_path / "jobs" / "run")
    for which in ("best", "last"):
        file = Path("adapter") / which / "adapter_model.safetensors"
        assert (folder / file).read_bytes() == (tmp_path / "runs" / "run" / file).read_bytes()
    kinds = [[record["event"] for record in read_records(path)] for path in (folder, tmp_path / "runs" / "run")]
    assert kinds[0] == kinds[1]


def host_of(site: str) -> psutil.Process | None:
    """The child in which a site trains."""
    for process in psutil.process_iter():
        try:
            if any("site_host" in part for part in process.cmdline()) and f"/{site}/" in process.cwd() + "/":
                return process
        except psutil.Error:
            continue
    return None


@pytest.mark.slow
def test_a_killed_host_costs_its_site_one_round_and_not_the_job(tmp_path: Path, deployment: Deployment) -> None:
    job(tmp_path, "--export_dir=jobs", "--name=long", "--num_rounds=4", "--local_epochs=8")
    ident = deployment.submit(tmp_path / "jobs" / "long")
    try:
        wait_for(lambda: deployment.records(ident, "round"), 120)
        killed = host_of("site-2")
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
def test_a_job_that_names_another_callable_of_ours_runs_nothing(tmp_path: Path, deployment: Deployment) -> None:
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
    ident = deployment.submit(tmp_path / "jobs" / "attack")
    with contextlib.suppress(RuntimeError):  # it failed
        deployment.nvflare("job", "wait", ident)
    assert not (tmp_path / "ran").exists()
    logs = [path.read_text(errors="replace") for path in deployment.workspace.rglob("*log.txt") if path.is_file()]
    assert any(ident in text and "load_plugins' at config path" in text for text in logs)
    with contextlib.suppress(FedummError):  # it registers no backend
        load_plugins([str(data)])
    assert (tmp_path / "ran").exists(), "it would have run"


@pytest.mark.slow
def test_a_deployment_that_can_not_start_leaves_no_process(tmp_path: Path) -> None:
    """Somebody else has its port by now."""
    broken = Deployment(tmp_path, sites=1, seconds_to_start=2)
    port = yaml.safe_load((tmp_path / "project.yml").read_text())["participants"][0]["fed_learn_port"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(RuntimeError, match=r"nvflare .* poc start"):
            broken.__enter__()
    assert not broken.processes()


def test_what_a_deployment_left_is_ended(tmp_path: Path) -> None:
    """A start script that outlives its server starts it anew; here a process that would sleep for ever."""
    deployment = Deployment(tmp_path, sites=1)
    with subprocess.Popen(["sleep", "1000"], cwd=deployment.workspace) as left:
        wait_for(lambda: [process.pid for process in deployment.processes()] == [left.pid], 20)
        deployment.end()
    assert not deployment.processes()
    assert not psutil.pid_exists(left.pid)
