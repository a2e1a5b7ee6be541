"""FLARE's simulator listens on local ports without a key: nobody else reaches them, or the user is told."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from fedumm.errors import FedummError
from fedumm.federation.runners.flare import isolation
from fedumm.federation.runners.flare import simulator as runner
from fedumm.federation.runners.flare.isolation import can_isolate
from fedumm.federation.runners.flare.process_guard import STARTING

LISTENER = """
import socket, sys
from fedumm.federation.runners.flare.isolation import isolate
isolate()
with socket.create_server(("127.0.0.1", 0)) as server:
    port = server.getsockname()[1]
    socket.create_connection(("127.0.0.1", port), timeout=10).close()
    print(port, flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not can_isolate(), reason="this machine gives users no namespaces")
def test_a_port_of_an_isolated_process_is_reached_from_inside_only() -> None:
    command = [sys.executable, "-c", LISTENER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=10)
        child.communicate("")
    assert child.returncode == 0


def processes(monkeypatch: pytest.MonkeyPatch, **users: int) -> None:
    listed = [
        SimpleNamespace(info={"username": name, "uids": SimpleNamespace(real=uid)}) for name, uid in users.items()
    ]
    monkeypatch.setattr(psutil, "process_iter", lambda attrs: listed)


def test_others_on_the_machine_are_named_and_a_way_round_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    processes(monkeypatch, root=0, daemon=1, me=4711, alice=1001, bob=1002)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert isolation.other_users() == ["alice", "bob"]
    assert runner.warning(isolated=False).startswith("Others have processes on this machine (alice, bob)")
    assert "--in_process gives the same result" in runner.warning(isolated=False)
    assert runner.warning(isolated=True) == ""


def test_who_is_alone_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    processes(monkeypatch, root=0, me=4711)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert runner.warning(isolated=False) == ""


def states(**texts: str) -> dict[str, dict[str, Any]]:
    return {host: {"text": text} for host, text in texts.items()}


def test_a_start_in_which_a_host_is_never_asked_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two: the first call of its process in FLARE was somebody else's."""
    start, now = runner._Start(), [100.0]
    monkeypatch.setattr(runner.time, "monotonic", lambda: now[0])
    start.check({})
    start.check(states(one=STARTING, two=STARTING))
    now[0] += runner._LONGEST_START
    start.check(states(one="loading the data", two=STARTING))
    now[0] += 1
    with pytest.raises(FedummError, match=r"two: NVIDIA FLARE's simulator sent nothing .* --in_process"):
        start.check(states(one="loading the data", two=STARTING))


def test_a_start_that_came_to_an_end_is_not_watched_any_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    start, now = runner._Start(), [100.0]
    monkeypatch.setattr(runner.time, "monotonic", lambda: now[0])
    start.check(states(one="loading the data"))
    now[0] += 10 * runner._LONGEST_START
    start.check(states(one=STARTING))
