"""The runner without NVIDIA FLARE: server and hosts in this process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fedumm.backends import load_backend_file
from fedumm.config import FederateConfig
from fedumm.federation.assignment import assign, host_count
from fedumm.federation.client.host import Host
from fedumm.federation.protocol.messages import Message
from fedumm.federation.protocol.wire import from_wire, to_wire
from fedumm.federation.runners.result import RunResult
from fedumm.federation.runners.round_loop import drive
from fedumm.federation.server.server import Server
from fedumm.report.run_folder import CLIENTS, RunFolder
from fedumm.temporary import leave_room_for_sockets

HostProgress = Callable[[str, int, int, str], None]


def run_in_process(config: FederateConfig, folder: RunFolder, progress: HostProgress) -> RunResult:
    """Federate with every host in this process, one after the other.

    With the same seed, options and number of hosts the adapters are bit-identical to those of
    NVIDIA FLARE's simulator on the CPU.
    """
    if config.num_workers:
        leave_room_for_sockets()
    if config.backend_file:
        load_backend_file(config.backend_file)
    count = host_count(config)
    assignments = assign(config.num_clients, count)
    hosts = [
        Host(name, config, partial(_forward, progress, name), folder.path / CLIENTS, index, count, simulated=True)
        for index, name in enumerate(assignments)
    ]
    server = Server(config, assignments, folder, balance=True)

    def send(message: Message) -> dict[str, Message]:
        # As on a network: what is no message is found out in the same place.
        return {host.name: from_wire(to_wire(host.handle(message))) for host in hosts}

    try:
        drive(server, send)
    finally:
        folder.finish()
    return RunResult.read(folder.path)


def _forward(progress: HostProgress, host: str, text: str, done: int, total: int) -> None:
    progress(text, done, total, host)
