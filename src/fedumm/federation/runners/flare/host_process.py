"""``python -m fedumm.federation.runners.flare.host_process RUN_FOLDER``: the hosts of a simulated run.

Started beside FLARE, so that the libraries are imported while that starts. Where it can be, they are
imported once and shared by the hosts, which are forked. Each host answers messages on a socket of its
name; FLARE's process of that name passes them on.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Client, Connection, Listener, wait
from pathlib import Path
from typing import Any

from fedumm.backends.registry import SHIPPED
from fedumm.config import FederateConfig, build, option_fields, read_yaml
from fedumm.errors import FedummError
from fedumm.federation.client.redaction import whole
from fedumm.federation.protocol.messages import Message
from fedumm.federation.protocol.wire import from_wire, to_wire
from fedumm.federation.runners.flare.framing import receive, send
from fedumm.federation.runners.flare.process_guard import PROGRESS, STARTING, leave_with_launcher, simulated_config
from fedumm.federation.runners.flare.serving import answer_messages
from fedumm.files import write_atomically
from fedumm.report.run_folder import CLIENTS, CONFIG

SOCKETS = "FEDUMM_HOST_SOCKETS"
"""Environment variable with the folder of the sockets, which only this user may enter."""

_PROGRESS_EVERY = 0.5
_RETRY = 0.05


class RemoteHost:
    """A host in another process, with the one method of :class:`fedumm.federation.client.host.Host`."""

    def __init__(self, name: str) -> None:
        """Wait until it is there."""
        self._name, self._connection = name, _connect(_address(name))

    def handle(self, message: Message) -> Message:
        """The host's answer.

        Raises:
            FedummError: its process died.
        """
        try:
            send(self._connection, to_wire(message))
            return from_wire(receive(self._connection))
        except (EOFError, OSError) as error:
            raise FedummError(f"the process of {self._name} died (out of memory?)") from error


def _address(host: str) -> Path:
    return Path(os.environ[SOCKETS]) / host


def _connect(address: Path) -> Connection:
    while True:
        try:
            return Client(str(address), "AF_UNIX")
        except (FileNotFoundError, ConnectionRefusedError):
            time.sleep(_RETRY)


class _ProgressFile:
    """Tells the launcher, now and then, what a host does."""

    def __init__(self, path: Path) -> None:
        self._path, self._shown = path, 0.0
        path.parent.mkdir(exist_ok=True)

    def __call__(self, text: str, done: int, total: int) -> None:
        if time.monotonic() - self._shown >= _PROGRESS_EVERY:
            self._shown = time.monotonic()
            content = {"text": text, "done": done, "total": total, "pid": os.getpid()}
            write_atomically(self._path, json.dumps(content))


def main(folder: Path) -> None:
    """Import the libraries, start the hosts, and end when one of them does."""
    from fedumm.federation.assignment import host_count, layout

    config = options_of_hosts(folder)
    count = host_count(config)
    context = _context(config)
    hosts: list[Any] = [
        context.Process(target=_serve, args=(name, index, count, folder)) for index, name in enumerate(layout(config))
    ]
    try:
        for host in hosts:
            host.start()
        leave_with_launcher()
        wait([host.sentinel for host in hosts])
    finally:
        # Python would wait for the others before it ends.
        for host in hosts:
            if host.pid is not None:
                host.kill()
    sys.exit(1)


def options_of_hosts(folder: Path) -> FederateConfig:
    """All but the aggregator's own, which may be a plugin's. These run in the hosts only: not before a fork, since they
    may start threads."""
    own = {option.name for option in option_fields(FederateConfig)}
    return build(FederateConfig, {name: value for name, value in read_yaml(folder / CONFIG).items() if name in own})


def _context(config: FederateConfig) -> Any:
    """Fork, with the libraries in memory; but a process that may use a GPU must not be forked."""
    import torch

    if sys.platform != "linux" or (config.gpu != "cpu" and torch.cuda.device_count()):
        return multiprocessing.get_context("spawn")
    # By name alone: no plugin has been run here. What one puts in a shipped backend's place, the hosts import.
    for module in ("fedumm.federation.client.host", "datasets", SHIPPED.get(config.model_backend, "torch")):
        importlib.import_module(module)
    # What is shared stays shared: the collector would write into every object.
    gc.freeze()
    return multiprocessing.get_context("fork")


def _serve(name: str, index: int, count: int, folder: Path) -> None:
    leave_with_launcher()
    progress = _ProgressFile(folder / PROGRESS / f"{name}.json")
    progress(STARTING, 0, 1)

    def make_host() -> Any:
        from fedumm.federation.client.host import Host

        return Host(name, simulated_config().of_client(name), progress, folder / CLIENTS, index, count, simulated=True)

    # The end of FLARE's process, on the other side, is the end of this one.
    with contextlib.suppress(EOFError), Listener(str(_address(name)), "AF_UNIX") as listener:
        answer_messages(listener.accept(), make_host, whole)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
