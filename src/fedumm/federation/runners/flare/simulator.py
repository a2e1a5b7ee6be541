"""Run FLARE's simulator as a child, and follow what it writes into the run folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fedumm.errors import FedummError
from fedumm.federation.runners.flare.environment import child_environment, python_command
from fedumm.federation.runners.flare.host_process import SOCKETS
from fedumm.federation.runners.flare.isolation import other_users
from fedumm.federation.runners.flare.process_guard import (
    ERROR,
    LAUNCHER,
    PLUGINS,
    PROGRESS,
    RUN,
    STARTING,
    alive,
    end_tree,
)
from fedumm.federation.runners.flare.simulator_main import ISOLATED
from fedumm.report.run_folder import LOG, METRICS, ROUNDS, RunFolder, read_config
from fedumm.stopping import undisturbed
from fedumm.temporary import folder_for_sockets, survives_splitting
from fedumm.texts import one_line

_EVERY = 0.2
_FIGURE_GRACE = 20.0
_LONGEST_START = 300.0
"""Seconds in which FLARE asks a host that waits for its first question; a busy machine takes a minute."""
Show = Callable[[dict[str, Any]], None]
ShowProgress = Callable[[str, int, int, str], None]


def warning(isolated: bool) -> str:
    """What the user should know before a simulation on a machine that others use; empty if there is nothing."""
    others = [] if isolated else other_users()
    if not others:
        return ""
    return (
        f"Others have processes on this machine ({one_line(', '.join(others), 100)}), and NVIDIA FLARE's simulator "
        "takes orders on local ports without a key: they could run code as you. --in_process gives the same result "
        "without."
    )


def run_simulator(folder: Path, show: Show, progress: ShowProgress, plugins: str = "", isolated: bool = False) -> None:
    """Run to the end, showing each record of ``metrics.jsonl`` as it appears.

    Args:
        plugins: the files that the user named, joined as in ``PATH``; the run's processes are told of them here, and by
            no file.
        isolated: FLARE's processes get a network of their own (:mod:`fedumm.federation.runners.flare.isolation`).

    Raises:
        FedummError: the run failed, or one of its processes died.
        KeyboardInterrupt: passed on, after every process has ended.
    """
    # Not in the run folder: sockets are made in it, and the names of those are limited to 107 bytes.
    with folder_for_sockets() as temporary:
        _simulate(folder, show, progress, plugins, isolated, temporary)


def _simulate(folder: Path, show: Show, progress: ShowProgress, plugins: str, isolated: bool, temporary: str) -> None:
    # A part of the run that was killed may have left these.
    (folder / ERROR).unlink(missing_ok=True)
    shutil.rmtree(folder / PROGRESS, ignore_errors=True)
    children: list[subprocess.Popen[bytes]] = []
    programs = {"simulator_main": [sys.executable], "host_process": python_command(read_config(folder))}
    arguments = {"simulator_main": [ISOLATED] if isolated else [], "host_process": []}
    told = {LAUNCHER: str(os.getpid()), RUN: str(folder.resolve()), PLUGINS: plugins, SOCKETS: temporary}
    environment = child_environment(**told, PYTHONUNBUFFERED="1", TMPDIR=temporary)
    try:
        with open(folder / LOG, "wb") as log:
            for module, python in programs.items():
                program = [*python, "-m", f"fedumm.federation.runners.flare.{module}"]
                command = [*program, str(folder), *arguments[module]]
                children.append(
                    subprocess.Popen(
                        command,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        stdin=subprocess.DEVNULL,
                        env=environment,
                        start_new_session=True,
                    )
                )
        _follow(children, folder, show, progress)
    finally:
        with undisturbed():
            for child in children:
                end_tree(child.pid)
                child.wait()
            shutil.rmtree(folder / PROGRESS, ignore_errors=True)
        if not (folder / ROUNDS).exists():
            # The process that would have drawn it was ended.
            RunFolder(folder, read_config(folder), show).finish()


def check_path(folder: Path) -> None:
    """Raise :class:`FedummError` for a path that FLARE's simulator, which splits commands as a shell, breaks."""
    for path, way_out in ((str(folder.resolve()), "another --name"), (sys.executable, "a Python in another folder")):
        if not survives_splitting(path):
            raise FedummError(
                f"NVIDIA FLARE's simulator can't use a path with a space, a quote, a backslash or a #: {path}. "
                f"Use {way_out}, or --in_process."
            )


def _follow(children: list[subprocess.Popen[bytes]], folder: Path, show: Show, progress: ShowProgress) -> None:
    flare, hosts = children
    records = _Tail(folder / METRICS)
    finished_at: float | None = None
    waiting = _Start()
    while flare.poll() is None and hosts.poll() is None:
        for record in records.read():
            show(record)
            if record["event"] == "summary":
                finished_at = time.monotonic()
        _raise_error(folder)
        if finished_at is None:
            _raise_lost(folder, flare)
            states = _states(folder)
            waiting.check(states)
            for host, state in states.items():
                progress(state["text"], state["done"], state["total"], host)
        elif (folder / ROUNDS).exists() or time.monotonic() - finished_at > _FIGURE_GRACE:
            # All is written. FLARE would now sleep for some seconds before it ends.
            break
        time.sleep(_EVERY)
    for record in records.read():
        show(record)
        finished_at = finished_at or (0.0 if record["event"] == "summary" else None)
    _raise_error(folder)
    if finished_at is None:
        _raise_lost(folder, flare)
        what = "The process of a host" if flare.poll() is None else "NVIDIA FLARE's simulator"
        raise FedummError(f"{what} ended early; see {folder / LOG}.")


def _raise_error(folder: Path) -> None:
    error = folder / ERROR
    if error.exists():
        raise FedummError(error.read_text())


def _states(folder: Path) -> dict[str, dict[str, Any]]:
    """What each host does now."""
    return {file.stem: json.loads(file.read_text()) for file in sorted((folder / PROGRESS).glob("*.json"))}


def _raise_lost(folder: Path, flare: subprocess.Popen[bytes]) -> None:
    """A host that is gone, for which FLARE's simulator may wait for ever; not if it ended with FLARE."""
    if flare.poll() is not None:
        return
    for host, state in _states(folder).items():
        if not alive(state["pid"]):
            raise FedummError(
                f"The process of {host} died while '{state['text']}' (out of memory?); see {folder / LOG}. "
                "Finished rounds are kept."
            )


class _Start:
    """Ends the wait for a question that does not come, since something else than FLARE answered its first call."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._over = False

    def check(self, states: dict[str, dict[str, Any]]) -> None:
        if self._over or not states:
            return
        idle = [host for host, state in states.items() if state["text"] == STARTING]
        self._over = not idle
        self._since = self._since or time.monotonic()
        if not self._over and time.monotonic() - self._since > _LONGEST_START:
            raise FedummError(
                f"{', '.join(idle)}: NVIDIA FLARE's simulator sent nothing in {_LONGEST_START:g} s. It does not work "
                "here, or another program on this machine connected to its ports first. --in_process gives the same "
                "result without it."
            )


class _Tail:
    """The lines of a growing file of JSON objects, each once, and only when complete."""

    def __init__(self, path: Path) -> None:
        self.path, self._offset = path, 0

    def read(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        with open(self.path, "rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield json.loads(line)
