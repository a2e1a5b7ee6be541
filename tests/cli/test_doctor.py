"""``fedumm doctor`` finds what would fail, says how to mend it, and changes nothing."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from fedumm.cli import health
from fedumm.cli.main import main


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDUMM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def found(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict[str, str]]]:
    status = main(["doctor", "--no_hub", "--json"])
    return status, {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_this_machine_will_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, findings = found(capsys)
    assert status == 0
    assert {
        "python",
        "libraries",
        "cpu",
        "gpu",
        "memory",
        "runs",
        "feature cache",
        "flare",
        "extras",
    } <= findings.keys()
    assert "hub" not in findings
    assert all(finding["mend"] for finding in findings.values() if finding["state"] != "ok")
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_a_library_that_does_not_fit_is_a_fault(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["transformers>=99", "nowhere-to-be-found", "torch>=2; extra == 'gpu'"]
    monkeypatch.setattr(health, "requires", lambda name: wanted)
    status, findings = found(capsys)
    assert status == 1
    own = findings["libraries"]
    assert own["state"] == "fault"
    assert "nowhere-to-be-found is missing" in own["told"]
    assert "(>=99 is wanted)" in own["told"]
    assert "pip install" in own["mend"]


def test_a_folder_that_takes_no_files_is_a_fault(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEDUMM_CACHE", str(tmp_path / "file"))
    assert main(["doctor", "--no_hub"]) == 1
    told = capsys.readouterr().out
    assert "FAULT  feature cache" in told
    assert "-> Set FEDUMM_CACHE" in told
    assert "1 fault(s)" in told


def test_little_memory_and_disk_are_warnings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_LITTLE_DISK", 1e18)
    monkeypatch.setattr(health, "_LITTLE_MEMORY", 1e18)
    status, findings = found(capsys)
    assert status == 0
    assert findings["memory"]["state"] == findings["runs"]["state"] == "warning"


def test_ports_that_are_taken_are_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        monkeypatch.setattr(health, "_FLARE_PORTS", {other.getsockname()[1]: "clients"})
        _, findings = found(capsys)
    assert findings["server ports"]["state"] == "warning"


def test_the_hub_is_asked_only_where_it_may_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("huggingface_hub.is_offline_mode", lambda: False)
    monkeypatch.setattr("fedumm.data.hub_access.check_reachable", lambda kind, name: asked.append(name))
    found(capsys)
    assert not asked
    main(["doctor", "--json"])
    (own,) = [finding for finding in json.loads(capsys.readouterr().out) if finding["what"] == "hub"]
    assert own["state"] == "warning"
    assert len(asked) == 1


def test_a_look_that_fails_is_a_finding(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "version", lambda name: 1 / 0)
    status, findings = found(capsys)
    assert status == 1
    assert findings["flare"]["told"] == "division by zero"
    assert "memory" in findings, "the others are looked at all the same"
