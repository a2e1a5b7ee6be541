"""What ties processes to the one that launched them: files that a simulation reads, and no orphans."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil

from fedumm.config import FederateConfig
from fedumm.plugins import load_plugins, plugin_files
from fedumm.report.run_folder import read_config

PROGRESS = "progress"
ERROR = "error.txt"
"""Left in the run folder for the launcher: what each process does now, and why the run was given up."""

STARTING = "starting"
"""What a host does until it is asked for the first time."""

LAUNCHER = "FEDUMM_LAUNCHER_PID"
RUN = "FEDUMM_SIMULATED_RUN"
PLUGINS = "FEDUMM_SIMULATED_PLUGINS"
"""Environment variables: the launcher's process, the folder of the run that it simulates, and the plugins that its user
named, joined as in ``PATH``. No job can set them."""

_EVERY = 1.0


def simulated_run() -> Path | None:
    """The folder of the simulated run that this process is part of; None on a real server or site."""
    folder = os.environ.get(RUN)
    return Path(folder) if folder else None


def simulated_config() -> FederateConfig:
    """The options of that run, whose plugins are run first: what they register may stand in the options."""
    plugin = os.environ.get(PLUGINS, "")
    load_plugins(plugin_files(plugin))
    return replace(read_config(Path(os.environ[RUN])), plugin=plugin)


def leave_with_launcher() -> None:
    """Watch the process named in the environment, and end this one, with all that it has started, when it is gone.

    FLARE puts its processes in sessions of their own, where neither Ctrl-C nor the launcher's death reaches them. Where
    the environment names none, nothing is watched.
    """
    launcher = os.environ.get(LAUNCHER)
    if launcher:
        leave_with(int(launcher))


def leave_with(pid: int) -> None:
    """Watch another process, and end this one, with all that it has started, when that is gone."""
    threading.Thread(target=_watch, args=(pid,), daemon=True).start()


def _watch(pid: int) -> None:
    while alive(pid):
        time.sleep(_EVERY)
    try:
        for child in psutil.Process().children():
            end_tree(child.pid)
    finally:
        os._exit(1)


def alive(pid: int) -> bool:
    """Whether the process is there and more than an entry that nobody has collected."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def end_tree(pid: int) -> None:
    """End a process and all its descendants, whatever sessions they are in."""
    try:
        root = psutil.Process(pid)
        tree = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        return
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            # FLARE's processes take seconds to answer a milder signal, and hold nothing of ours.
            process.kill()
    psutil.wait_procs(tree, timeout=3)
