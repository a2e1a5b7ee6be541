"""``fedumm submit`` and ``fedumm watch`` with a federation that is up: what its administrator sees."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedumm.cli.main import main
from fedumm.federation.runners.flare.kits import provision
from fedumm.report.run_folder import read_records
from support.federation import Federation, federation

OPTIONS = [
    "--model_backend=blip_vqa", "--model_name_or_path=tiny", "--dataset=easy_vqa", "--num_clients=2", "--num_rounds=2",
    "--max_train_samples=120", "--max_eval_samples=30",
]  # fmt: skip

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    policy = {"threads": 1, "most": {"num_rounds": 500}}
    with federation(tmp_path_factory.mktemp("sites"), {"site-1": policy, "site-2": policy}) as running:
        yield running


def started(sites: Federation, folder: Path, command: str, *more: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "fedumm", command, *more, f"--startup_kit={sites.kits.admin}"]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, cwd=folder, stdout=pipe, stderr=pipe, text=True)


def fedumm(sites: Federation, folder: Path, command: str, *more: str) -> tuple[int, str, str]:
    """Exit status, output, errors."""
    with started(sites, folder, command, *more) as process:
        out, error = process.communicate()
        return process.returncode, out, error


def job_in(text: str) -> str:
    found = re.search(r"[Jj]ob ([0-9a-f-]{36})", text)
    assert found, text
    return found[1]


@pytest.mark.slow
def test_a_submitted_job_is_shown_and_its_result_is_a_run_here(tmp_path: Path, sites: Federation) -> None:
    status, out, error = fedumm(sites, tmp_path, "submit", *OPTIONS, "--name=sub")
    assert (status, error) == (0, "")
    assert "connected: site-1, site-2\n" in out
    assert all(f" {number}/2 " in out for number in (1, 2))
    job = job_in(out)
    assert out.endswith(f"Job {job}: FINISHED:COMPLETED\n")
    run = tmp_path / "runs" / "sub"
    assert list(read_records(run))[-1]["event"] == "summary"
    assert (run / "adapter" / "best" / "adapter_model.safetensors").exists()
    again = fedumm(sites, tmp_path, "watch", job, "--name=sub")
    assert "exists. Choose another --name, or replace it with --overwrite." in again[2]
    status, out, error = fedumm(sites, tmp_path, "watch", job, "--name=late")
    assert (status, error) == (0, "")
    assert all(f" {number}/2 " in out for number in (1, 2)), "also of a job that is over"
    assert (tmp_path / "runs" / "late" / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    assert (tmp_path / "runs" / "late" / "config.yaml").exists()


@pytest.mark.slow
def test_a_job_is_repeated_without_a_site_that_is_still_connected(
    tmp_path: Path, sites: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, error = fedumm(sites, tmp_path, "submit", *OPTIONS, "--partition=own", "--name=both")
    assert (status, error) == (0, "")
    status, out, error = fedumm(sites, tmp_path, "submit", "--resume=both", "--without=site-2")
    assert (status, error) == (0, "")
    assert "is repeated from the start without site-2" in out
    assert "connected: site-1\n" in out
    run = tmp_path / "runs" / "both-without-site-2"
    assert [(r["host"], r["reason"]) for r in read_records(run) if r["event"] == "left_out"] == [
        ("site-2", "it has withdrawn (--without): both is repeated without it")
    ]
    monkeypatch.chdir(tmp_path)
    own = [part for part in OPTIONS if not part.startswith(("--dataset", "--num_clients"))]
    assert main(["federate", *own, "--client_data=site-1=easy_vqa", "--in_process", "--name=alone"]) == 0
    file = Path("adapter") / "last" / "adapter_model.safetensors"
    assert (run / file).read_bytes() == (tmp_path / "runs" / "alone" / file).read_bytes()


@pytest.mark.slow
def test_to_stop_watching_stops_nothing_and_says_how_to_go_on(tmp_path: Path, sites: Federation) -> None:
    with started(sites, tmp_path, "submit", *OPTIONS, "--num_rounds=300", "--name=long") as process:
        assert process.stdout
        assert process.stderr
        job = next(job_in(line) for line in process.stdout if line.startswith("Job "))
        assert any(" 1/300 " in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        error = process.stderr.read()
        assert process.wait(60) == 130
    assert f"Watch it again:  fedumm watch {job} --startup_kit {sites.kits.admin} --name long\n" in error
    assert f"End it:          nvflare job abort {job} --startup-kit {sites.kits.admin} --force\n" in error
    # Its number stays, so that a job that is aborted can be resumed.
    assert json.loads((tmp_path / "runs" / "long" / "job.json").read_text()) == {"run": job}
    assert not (tmp_path / "runs" / "long" / "metrics.jsonl").exists()
    assert sites.session.state(job).status == "RUNNING"
    numbers = str(sites.session._session.show_stats(job, "server"))  # as 'nvflare job monitor' asks
    assert all(f"'{name}': " in numbers for name in ("round", "accuracy", "test", "loss", "clients"))
    with started(sites, tmp_path, "watch", job, "--name=long") as process:
        assert process.stdout
        assert process.stderr
        assert any(" 1/300 " in line for line in process.stdout), "from the first round on"
        sites.session.abort(job)
        _, error = process.communicate()
        assert process.returncode == 2
    assert f"The job {job} ended as FINISHED:ABORTED, without a result.\n" in error
    assert "What it recorded until then is in runs/long." in error
    assert "Traceback" not in error
    assert next(read_records(tmp_path / "runs" / "long"))["event"] == "setup"


@pytest.mark.slow
def test_what_a_site_does_not_allow_is_what_the_user_reads(tmp_path: Path, sites: Federation) -> None:
    status, _, error = fedumm(sites, tmp_path, "submit", *OPTIONS, "--num_rounds=501", "--name=much")
    assert status == 2
    assert "FINISHED:EXECUTION_EXCEPTION" in error
    assert "This site does not allow --num_rounds 501: at most 500." in error
    assert "Traceback" not in error
    assert not (tmp_path / "runs" / "much" / "metrics.jsonl").exists()


@pytest.mark.slow
def test_sites_that_are_not_there_are_told(tmp_path: Path, sites: Federation) -> None:
    status, out, error = fedumm(sites, tmp_path, "submit", *OPTIONS, "--num_clients=3", "--min_clients=3", "--detach")
    assert (status, error) == (0, "")
    assert "connected: site-1, site-2; 1 of 3 are not, and the job needs 3." in out
    job = job_in(out)
    assert f"Watch it with: fedumm watch {job} --startup_kit {sites.kits.admin}\n" in out
    sites.session.abort(job)
    assert sites.end_of(job).status == "FINISHED:ABORTED"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "message"),
    [
        ("8c4a1b1e-0000-4000-8000-000000000000", "The server has no job 8c4a1b1e-0000-4000-8000-000000000000."),
        ("../x; rm", "is no number of a job"),
    ],
)
def test_a_job_that_is_not_there_is_told(
    sites: Federation, capsys: pytest.CaptureFixture[str], job: str, message: str
) -> None:
    assert main(["watch", job, "--startup_kit", str(sites.kits.admin)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["submit", "watch"])
def test_a_wrong_kit_is_told_before_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    more = OPTIONS if command == "submit" else ["8c4a1b1e"]
    assert main([command, *more, "--startup_kit", "nowhere"]) == 2
    assert "--startup_kit nowhere: that is no startup kit." in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_server_that_is_down_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kits").mkdir()
    kits = provision(tmp_path / "kits", {"site-1": {}})
    assert main(["submit", *OPTIONS, "--startup_kit", str(kits.admin)]) == 2
    out, error = capsys.readouterr()
    assert f"No server can be reached with the startup kit {kits.admin}" in error
    assert error.count("\n") == 1
    assert out == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("flag", ["--simulator", "--in_process", "--export_dir=x", "--dry_run"])
def test_a_job_runs_at_its_sites(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    assert main(["submit", *OPTIONS, "--startup_kit=x", flag]) == 2
    assert f"{flag.split('=')[0]} is not for jobs at a server" in capsys.readouterr().err
