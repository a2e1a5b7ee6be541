"""A site's launcher starts a job's process again that was killed, and no other."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

import pytest
from nvflare.apis.job_launcher_spec import JobReturnCode
from nvflare.app_common.job_launcher.process_launcher import ProcessHandle
from nvflare.fuel.utils.class_utils import instantiate_class

from fedumm.federation.runners.flare.job_launcher import RESTARTS, RestartingHandle, RestartingJobLauncher


def handle(codes: list[str], restarts: int = 2) -> tuple[RestartingHandle, list[str], list[str]]:
    """One over processes of Python, each of which does what a text of ``codes`` says."""
    left, said = codes.copy(), list[str]()

    def start() -> Any:
        return ProcessHandle(process=subprocess.Popen([sys.executable, "-c", f"import os, signal; {left.pop(0)}"]))

    return RestartingHandle(start, restarts, said.append), left, said


KILL, TERM, SEGV = (f"os.kill(os.getpid(), signal.{name})" for name in ("SIGKILL", "SIGTERM", "SIGSEGV"))


@pytest.mark.parametrize(
    ("codes", "started", "code"),
    [
        ([KILL, TERM, "pass", "pass"], 3, JobReturnCode.SUCCESS),
        ([SEGV, SEGV, SEGV, "pass"], 3, JobReturnCode.EXECUTION_ERROR),
        (["os._exit(1)", "pass"], 1, JobReturnCode.EXECUTION_ERROR),
        (["os._exit(9)", "pass"], 1, JobReturnCode.ABORTED),
        (["pass", "pass"], 1, JobReturnCode.SUCCESS),
    ],
)
def test_only_what_a_signal_ended_is_started_again(codes: list[str], started: int, code: object) -> None:
    own, left, said = handle(codes)
    assert own.poll() == JobReturnCode.UNKNOWN, "there may be another"
    own.wait()
    assert len(codes) - len(left) == started
    assert len(said) == started - 1
    assert own.poll() == code


def test_what_flare_ends_stays_ended() -> None:
    # In a group of its own, which FLARE's handle ends as a whole.
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
    starts = [ProcessHandle(process=process)]
    own = RestartingHandle(starts.pop, 5, print)
    own.terminate()
    own.wait()
    assert process.returncode == -signal.SIGKILL
    assert own.poll() != JobReturnCode.SUCCESS


def test_flare_builds_it_from_the_entry_that_we_write() -> None:
    from fedumm.federation.runners.flare.site_kit import LAUNCHER

    launcher = instantiate_class(LAUNCHER["path"], LAUNCHER["args"])
    assert isinstance(launcher, RestartingJobLauncher)
    assert launcher.restarts == RESTARTS
