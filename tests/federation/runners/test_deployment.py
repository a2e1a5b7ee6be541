"""Processes of a federation that are started by another program, as steps of a Slurm job are."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedumm.errors import FedummError
from fedumm.federation.runners.flare.deployment import Deployment
from fedumm.federation.runners.flare.process_guard import LAUNCHER
from support.processes import wait_for

SRUN = 'env > env; echo "$@" > argv; trap "touch ended; exit 0" TERM; touch up; while :; do sleep 0.1; done'


def test_a_step_is_asked_to_end_and_watches_no_process_of_another_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kit = tmp_path / "kit"
    with Deployment({"server": kit}, tmp_path, {"server": ["sh", "-c", SRUN, "srun"]}) as up:
        wait_for((tmp_path / "up").exists, 20)
        up.check()
    assert (tmp_path / "ended").exists()
    assert (tmp_path / "argv").read_text().split()[-1] == str(kit)
    assert LAUNCHER not in (tmp_path / "env").read_text()


def test_a_step_that_could_not_start_is_told_with_what_slurm_says(tmp_path: Path) -> None:
    refused = ["sh", "-c", "echo srun: error: no such node >&2; exit 1"]
    with pytest.raises(FedummError, match="of server ended with status 1; its last line: srun: error: no such node"):  # noqa: SIM117
        with Deployment({"server": tmp_path}, tmp_path, {"server": refused}) as broken:
            wait_for(broken.check, 20)
