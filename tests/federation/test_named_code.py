"""Code is run only if its file is named on the command line of this very call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fedumm.aggregation.registry import aggregators
from fedumm.backends.registry import available_backends
from fedumm.cli.new import write
from fedumm.errors import FedummError
from fedumm.federation.protocol.messages import DataStatsRequest, HostError
from fedumm.federation.runners.flare.site_host import SiteHost
from fedumm.report.plugin_digest import DIGESTS, check_digests
from fedumm.report.run_folder import read_records
from support.commands import BACKEND, JOB, federate, flags, go_on, prepare, results
from support.toy import LORA_TOY, lora_options, toy_config


@pytest.fixture(autouse=True)
def _prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(monkeypatch)


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """Somebody's file; beside it, ``ran`` appears when it is run."""
    file = tmp_path / "trap.py"
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    return file


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    capsys.readouterr()
    assert federate(*argv) == 2
    out, error = capsys.readouterr()
    assert "Traceback" not in out + error
    assert error.count("\n") == 1
    return error


def add_to_options(run: Path, **more: object) -> None:
    with open(run / "config.yaml", "a") as file:
        file.write(yaml.safe_dump(more))


def test_a_run_keeps_the_digest_of_the_file_and_not_where_it_is(tmp_path: Path) -> None:
    assert federate(*flags(tmp_path / "run", num_rounds=1)) == 0
    assert "plugin" not in yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    said = subprocess.run(["sha256sum", LORA_TOY.name], cwd=LORA_TOY.parent, capture_output=True, text=True, check=True)
    assert (tmp_path / "run" / DIGESTS).read_text() == said.stdout


def test_going_on_asks_for_the_same_file_again_wherever_it_is_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, moved, other = tmp_path / "run", tmp_path / "moved.py", tmp_path / "other.py"
    assert federate(*flags(run, num_rounds=1)) == 0
    moved.write_bytes(LORA_TOY.read_bytes())
    other.write_bytes(LORA_TOY.read_bytes() + b"\n")
    longer = ("--resume", run, "--num_rounds", 2)
    assert "is run only if you name it: add --plugin FILE" in refused(capsys, *longer)
    again = (*flags(run, num_rounds=2, plugin=str(other)), "--resume_if_exists")
    for line in ((*longer, "--plugin", other), again):
        assert f"other.py is not the file {LORA_TOY.name!r} that the run in" in refused(capsys, *line)
    assert "no such file" in refused(capsys, *longer, "--plugin", tmp_path / "no.py")
    both = (*longer, "--plugin", moved, "--plugin", LORA_TOY)
    assert "began with 1 plugin(s), 'lora_toy_backend.py': name them all, in that order" in refused(capsys, *both)
    assert federate(*longer, "--plugin", moved) == 0
    assert federate(*flags(run, num_rounds=3, plugin=str(moved)), "--resume_if_exists") == 0
    assert federate(*flags(tmp_path / "straight", num_rounds=3)) == 0
    ours, straight = results(run), results(tmp_path / "straight")
    assert {n: c for n, c in ours.items() if n.endswith("safetensors")} == {
        n: c for n, c in straight.items() if n.endswith("safetensors")
    }


def test_a_run_whose_aggregator_is_a_plugins_asks_for_the_plugin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not for an aggregator of another name, which would be no help."""
    run, (plugin, _) = tmp_path / "run", write("aggregator", "nearby", tmp_path)
    assert federate(*flags(run, num_rounds=1), "--plugin", plugin, "--aggregator", "nearby") == 0
    aggregators.forget("nearby")
    for named in ((), BACKEND):
        said = refused(capsys, "--resume", run, "--num_rounds", 2, *named)
        assert "nearby.py" in said
        assert "--plugin" in said or "name them all" in said
    assert federate("--resume", run, "--num_rounds", 2, *BACKEND, "--plugin", plugin) == 0


def test_another_file_than_the_runs_is_refused_before_it_is_run(
    tmp_path: Path, trap: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert federate(*flags(run, num_rounds=1)) == 0
    (tmp_path / "options.yaml").write_text(f"name: {run}\nresume_if_exists: true\n")
    lines = ("--resume", run), ("--name", run, "--resume_if_exists"), ("--config", tmp_path / "options.yaml")
    for line in lines:
        assert "is not the file" in refused(capsys, *line, "--num_rounds", 2, "--plugin", trap)
    assert not (tmp_path / "ran").exists()


def test_no_file_of_options_names_code(tmp_path: Path, trap: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither one of ``--config``, nor that of a run which somebody sent."""
    run = tmp_path / "run"
    assert federate(*flags(run, num_rounds=1)) == 0
    add_to_options(run, plugin=str(trap))
    wanted = "code is run only if you name it yourself: take that line out, and add --plugin FILE"
    for line in (("--resume", run, "--num_rounds", 2), ("--config", run / "config.yaml", "--name", tmp_path / "new")):
        for named in ((), BACKEND):
            assert wanted in refused(capsys, *line, *named)
    assert wanted in refused(capsys, *flags(run), "--resume_if_exists")
    assert not (tmp_path / "ran").exists()


def test_a_file_is_not_asked_for_where_there_was_none(tmp_path: Path, trap: Path) -> None:
    check_digests(tmp_path, [])
    with pytest.raises(FedummError, match="began without a --plugin"):
        check_digests(tmp_path, [str(trap)])
    (tmp_path / DIGESTS).write_text("\x1b[2J of nothing")
    with pytest.raises(FedummError, match="holds no SHA-256"):
        check_digests(tmp_path, [str(trap)])


def test_a_site_runs_no_file_that_a_job_names(tmp_path: Path, trap: Path) -> None:
    given = toy_config(**lora_options(in_process=False, num_clients=1, plugin=str(trap)))
    site = SiteHost("site-1", given, tmp_path / "site-1", tmp_path, lambda: False)
    try:
        answer = site.handle(DataStatsRequest(["site-1"]))
    finally:
        site.close()
    assert isinstance(answer, HostError)
    assert not (tmp_path / "ran").exists()
    assert "lora_toy" not in available_backends()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_simulator_imports_nothing_from_the_folder_that_the_user_is_in(tmp_path: Path) -> None:
    """``python -m`` would; and its hosts are told of the backend's file by the launcher."""
    if sys.version_info < (3, 11):
        pytest.skip("PYTHONSAFEPATH is of Python 3.11")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for name in ("psutil", "nvflare", "torch", "fedumm"):
        (inbox / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    line = flags(tmp_path / "run", num_rounds=1, hosts=1, in_process=False, simulator=True)
    done = subprocess.run([sys.executable, str(JOB), *line], cwd=inbox, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()
    assert "--plugin lora_toy_backend.py" in (tmp_path / "run" / "adapter" / "last" / "README.md").read_text()
    assert [r["event"] for r in read_records(tmp_path / "run")][-1] == "summary"
    assert go_on(tmp_path / "run") == 2
