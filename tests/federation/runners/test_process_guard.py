"""Processes that end with the one that started them."""

from __future__ import annotations

import subprocess
import sys

import psutil

from support.processes import wait_for

CHILD = """
import os, subprocess, sys, time
from fedumm.federation.runners.flare.process_guard import leave_with
leave_with(os.getppid())
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], start_new_session=True)
print(os.getpid(), flush=True)
time.sleep(100)
"""
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}], start_new_session=True)"


def test_one_that_is_killed_takes_all_below_it_along() -> None:
    """Whatever sessions they are in, as those of a site's jobs."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        tree = [child, *child.children()]
        assert len(tree) == 2
        parent.kill()
    wait_for(lambda: not any(process.is_running() for process in tree), 20)
