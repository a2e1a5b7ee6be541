"""The processes of a federation on this machine: one for each startup kit, and none when it is over."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from fedumm.errors import FedummError
from fedumm.federation.runners.flare.environment import child_environment
from fedumm.federation.runners.flare.process_guard import LAUNCHER, end_tree
from fedumm.stopping import undisturbed
from fedumm.texts import one_line

_STEP_SECONDS = 60.0
"""For which a step of a Slurm job is waited for at its end; what is left then ends with the job."""


class Deployment:
    """Server and sites, each a process in a session of its own; used in a ``with`` block, in which they are up.

    They end with the block; and they watch this process, and end when it is gone, however that ended. A step of a Slurm
    job may be on another node: it ends with the block, or with the job.

    Args:
        kits: by name, the startup kits.
        logs: an existing folder, for what each process prints (``NAME.log``).
        steps: by name, the command that starts what follows it as a step of a Slurm job; for all or none.
    """

    def __init__(self, kits: Mapping[str, Path], logs: Path, steps: Mapping[str, Sequence[str]] | None = None) -> None:
        self._kits, self._logs, self._steps = kits, logs, steps or {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Deployment:
        try:
            for name in self._kits:
                self.start(name)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def start(self, name: str) -> None:
        """Start one of them, also once more after it has ended."""
        module = "fedumm.federation.runners.flare.kit_process"
        command = [*self._steps.get(name, ()), sys.executable, "-u", "-m", module, str(self._kits[name])]
        watched = {} if self._steps else {LAUNCHER: str(os.getpid())}
        with open(self._log(name), "ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=child_environment(**watched),
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise :class:`FedummError` if one of them has ended."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                lines = self._log(name).read_text(encoding="utf-8", errors="replace").strip().splitlines()
                raise FedummError(
                    f"The process of {name} ended with status {process.returncode}; its last line: "
                    f"{one_line((lines or ['none'])[-1])}; all of them: {self._log(name)}"
                )

    def end(self) -> None:
        """End them and all that they have started. They hold nothing that a milder end would save."""
        with undisturbed():
            if self._steps:
                self._end_steps()
            for process in self.processes.values():
                end_tree(process.pid)
                process.wait()

    def _end_steps(self) -> None:
        """Let ``srun`` end its step, which would outlive an ``srun`` that was killed."""
        for process in self.processes.values():
            process.terminate()
        end = time.monotonic() + _STEP_SECONDS
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"
