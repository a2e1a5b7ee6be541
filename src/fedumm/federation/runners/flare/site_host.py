"""A real site's host, in a child of FLARE's process: if it dies, that is an error of a round and not the job's end.

FLARE's process needs no torch, and the child may run in another environment (``--use_env_script``).
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fedumm.config import FederateConfig
from fedumm.errors import PublicError
from fedumm.federation.client.redaction import withheld
from fedumm.federation.protocol.messages import Message, RoundReply, RoundTask
from fedumm.federation.protocol.wire import from_wire, to_wire
from fedumm.federation.runners.flare.environment import child_environment, python_command
from fedumm.federation.runners.flare.framing import receive, send
from fedumm.federation.runners.flare.process_guard import LAUNCHER, leave_with_launcher
from fedumm.federation.runners.flare.serving import answer_messages
from fedumm.report.run_folder import CLIENTS
from fedumm.run_options import from_mapping, to_mapping

LOG = "host.log"
"""What the host and its libraries print, and what is behind the errors that the server is told of."""

_POLL = 0.2
_SECONDS_TO_END = 5.0


def write_log(folder: Path, text: str) -> None:
    """Add ``text`` to the log of this job."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(folder / LOG, "a", encoding="utf-8", errors="backslashreplace") as log:
        log.write(text)


class StoppedHostError(Exception):
    """The host was ended because FLARE asked for it."""


class SiteHost:
    """A supervised host, with the one method of :class:`fedumm.federation.client.host.Host`.

    A child that died is started again for the next message: it says that it is new, and the server sets it up.

    Args:
        config: the run's options.
        folder: of this run at the site, for what the client keeps and for the log; its name is the run's.
        startup: of the site's kit, for its certificate and key.
        stop: whether FLARE wants this process to stop.
    """

    def __init__(
        self, name: str, config: FederateConfig, folder: Path, startup: Path, stop: Callable[[], bool]
    ) -> None:
        self._name, self._config, self._folder, self._startup, self._stop = name, config, folder, startup, stop
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
        self._answered = 0

    @property
    def pid(self) -> int | None:
        """Process number of the child; None if there is none."""
        return self._child.pid if self._child else None

    def handle(self, message: Message) -> Message:
        """The host's answer.

        Raises:
            PublicError: its process died.
            FedummError: it could not be started.
            StoppedHostError: FLARE wants to stop.
        """
        if self._child is None:
            self._start()
        answer = self._ask(message)
        if isinstance(message, RoundTask) and isinstance(answer, RoundReply):
            self._answered = message.round
        return answer

    def _start(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = python_command(self._config)
        ours, theirs = multiprocessing.Pipe()
        with open(self._folder / LOG, "ab") as log, theirs:
            self._child = subprocess.Popen(
                [*command, "-m", "fedumm.federation.runners.flare.site_host", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=child_environment(**{LAUNCHER: str(os.getpid()), "PYTHONUNBUFFERED": "1"}),
            )
        self._connection = ours
        # With local privacy a round must not be answered twice, by no child.
        first = {
            "name": self._name, "config": to_mapping(self._config), "folder": str(self._folder),
            "startup": str(self._startup), "answered": self._answered,
        }  # fmt: skip
        with contextlib.suppress(OSError):  # it died: the first question will say so
            send(ours, first)

    def _ask(self, message: Message) -> Message:
        assert self._connection is not None
        try:
            send(self._connection, to_wire(message))
            while not self._connection.poll(_POLL):
                if self._stop():
                    self.close()
                    raise StoppedHostError
            return from_wire(receive(self._connection))
        except (EOFError, OSError) as error:
            raise PublicError(self._obituary()) from error

    def _obituary(self) -> str:
        status = self.close()
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        why = ", out of memory?" if status in (-signal.SIGKILL, 128 + signal.SIGKILL) else ""
        return f"the process of {self._name} died ({how}{why}); what it printed is in {LOG} at that site"

    def close(self) -> int:
        """End the child, if there is one; its status."""
        child, connection = self._child, self._connection
        self._child = self._connection = None
        if connection is not None:
            connection.close()
        if child is None:
            return 0
        try:
            # Its connection has ended: one that waits for a message leaves by itself.
            return child.wait(_SECONDS_TO_END if not self._stop() else 0)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()


def main(descriptor: int) -> None:
    """The child: answer what comes on an inherited connection until that is closed."""
    connection: Connection[Any, Any] = Connection(descriptor)
    leave_with_launcher()
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s")
    with contextlib.suppress(EOFError):
        first = receive(connection)
        config = from_mapping(FederateConfig, first["config"])

        def make_host() -> Any:
            from fedumm.federation.client.host import Host
            from fedumm.federation.runners.flare.site_identity import read_identity

            name, folder = first["name"], Path(first["folder"])
            masks = config.secure_aggregation
            identity = read_identity(Path(first["startup"]), name, folder.name) if masks else None
            clients, answered = folder / CLIENTS, first["answered"]
            return Host(name, config, lambda *_: None, clients, answered=answered, identity=identity)

        answer_messages(connection, make_host, withheld)


if __name__ == "__main__":
    main(int(sys.argv[1]))
