"""Which Python a host runs in: this one, or with ``--use_env_script`` that of the backend's own environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import fedumm
from fedumm import launchers
from fedumm.config import FederateConfig
from fedumm.errors import FedummError

LAUNCHERS = {"blip_vqa": "launch_blip.sh", "januspro": "launch_januspro.sh"}
"""Scripts of the installed package, by backend; each runs ``python -u`` with its arguments."""

OWN = "FEDUMM_LAUNCHER"
"""Environment variable: a script of this machine's own, in place of those. A job can't set it."""

_SHOW_VERSION = "import fedumm; print(fedumm.__version__)"
_SECONDS = 120


def child_environment(**more: str) -> dict[str, str]:
    """Environment variables of a Python that is started with ``-m`` or ``-c``: this process's, and ``more``.

    Without the first it would import what lies in the folder that the user happens to be in (Python 3.10 does).
    """
    return {**os.environ, "PYTHONSAFEPATH": "1", **more}


def python_command(config: FederateConfig) -> list[str]:
    """How the Python of ``config``'s hosts is started, without its arguments.

    Raises:
        FedummError: there is no launcher for the backend.
    """
    if not config.use_env_script:
        return [sys.executable]
    bash, script = shutil.which("bash"), _launcher(config.model_backend)
    if bash is None:
        raise FedummError("--use_env_script needs bash, which is not on the PATH.")
    return [bash, str(script)]


def _launcher(backend: str) -> Path:
    if own := os.environ.get(OWN):
        if not Path(own).is_file():
            raise FedummError(f"{OWN}={own}: no such file.")
        return Path(own).resolve()
    if backend not in LAUNCHERS:
        raise FedummError(
            f"--use_env_script: fedumm has launchers for {' and '.join(LAUNCHERS)}. Name one for {backend!r} in the "
            f"environment variable {OWN}: a script that runs python -u with its arguments."
        )
    return Path(launchers.__file__).parent / LAUNCHERS[backend]


def check_environment(config: FederateConfig) -> None:
    """Start the Python that the hosts will run in, to see that it is there and has this version of fedumm.

    Raises:
        FedummError: it is not, or has another.
    """
    if not config.use_env_script:
        return
    command = [*python_command(config), "-c", _SHOW_VERSION]
    try:
        done = subprocess.run(
            command, env=child_environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise FedummError(f"--use_env_script: {command[1]} did not start Python within {_SECONDS} s.") from None
    if done.returncode:
        told = (done.stderr.strip().splitlines() or [f"{command[1]} ended with status {done.returncode}."])[-1]
        raise FedummError(f"--use_env_script: {told}")
    found = (done.stdout.strip().splitlines() or [""])[-1]
    if found != fedumm.__version__:
        raise FedummError(
            f"--use_env_script: the environment that {command[1]} starts has fedumm {found!a}, and this is "
            f"{fedumm.__version__}: install the same version in both."
        )
