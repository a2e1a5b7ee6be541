"""The processes of a federation on this machine: one for each startup kit, and none when it is over."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from fedumm.errors import FedummError
from fedumm.federation.runners.flare.environment import child_environment
from fedumm.federation.runners.flare.process_guard import LAUNCHER, end_tree
from fedumm.stopping import undisturbed
from fedumm.texts import one_line


class Deployment:
    """Server and sites, each a process in a session of its own; used in a ``with`` block, in which they are up.

    They end with the block; and they watch this process, and end when it is gone, however that ended.

    Args:
        kits: by name, the startup kits.
        logs: an existing folder, for what each process prints (``NAME.log``).
    """

    def __init__(self, kits: Mapping[str, Path], logs: Path) -> None:
        self._kits, self._logs = kits, logs
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
        command = [sys.executable, "-u", "-m", "fedumm.federation.runners.flare.kit_process", str(self._kits[name])]
        with open(self._log(name), "ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=child_environment(**{LAUNCHER: str(os.getpid())}),
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
            for process in self.processes.values():
                end_tree(process.pid)
                process.wait()

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"
