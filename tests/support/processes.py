"""Processes that a test starts: which are there, and waiting for what they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil


def processes_of(folder: Path) -> list[psutil.Process]:
    """Everything that a simulated run in ``folder`` has started and that is still there."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and any(str(folder) in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(condition: Callable[[], Any], seconds: float) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := condition():
            return result
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


def killed(command: list[str], when: Path, lines: int) -> None:
    """Start ``fedumm`` with this command, and end it without a word as soon as the file ``when`` has so many lines."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fedumm", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: when.is_file() and len(when.read_bytes().splitlines()) >= lines, 240)
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
