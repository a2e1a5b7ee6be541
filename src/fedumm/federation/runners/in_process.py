"""The runner without NVIDIA FLARE: server and hosts in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from fedumm.config import FederateConfig
from fedumm.federation.assignment import assign, host_count
from fedumm.federation.client.host import Host
from fedumm.federation.protocol.messages import Message
from fedumm.federation.protocol.wire import from_wire, to_wire
from fedumm.federation.runners.round_loop import drive
from fedumm.federation.server.server import Server
from fedumm.plugins import load_plugins
from fedumm.report.run_folder import CLIENTS, RunFolder
from fedumm.run_events import RunListener, UserListener
from fedumm.temporary import leave_room_for_sockets
from fedumm.training.stock import Stock

HostProgress = Callable[[str, int, int, str], None]


def run_in_process(
    config: FederateConfig,
    folder: RunFolder,
    progress: HostProgress,
    listeners: Sequence[RunListener] = (),
    stock: Stock | None = None,
) -> None:
    """Federate with every host in this process, one after the other.

    With the same seed, options and number of hosts the adapters are bit-identical to those of NVIDIA FLARE's simulator
    on the CPU.

    Args:
        config: the run's options.
        folder: where it is written.
        progress: called with a host, what it does, how much of that is done, and how much there is to do.
        listeners: are told what happens, after ``folder``.
        stock: data and models that runs of this process share.

    Raises:
        FedummError: bad data or model, too few usable updates, or a listener failed.
    """
    if config.num_workers:
        leave_room_for_sockets()
    load_plugins(config.plugins)
    count = host_count(config)
    assignments = assign(config.num_clients, count)
    make = partial(Host, simulated=True, stock=stock)
    hosts = [
        make(name, config, partial(_forward, progress, name), folder.path / CLIENTS, index, count)
        for index, name in enumerate(assignments)
    ]
    server = Server(config, assignments, folder.state, [folder, *map(UserListener, listeners)], balance=True)

    def send(message: Message) -> dict[str, Message]:
        # As on a network: what is no message is found out in the same place.
        return {host.name: from_wire(to_wire(host.handle(message))) for host in hosts}

    try:
        drive(server, send)
    finally:
        folder.finish()


def _forward(progress: HostProgress, host: str, text: str, done: int, total: int) -> None:
    progress(text, done, total, host)
