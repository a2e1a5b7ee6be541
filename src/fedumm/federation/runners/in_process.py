"""The runner without NVIDIA FLARE: server and hosts in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from fedumm.config import FederateConfig
from fedumm.federation.assignment import host_count, layout
from fedumm.federation.client.host import Host
from fedumm.federation.protocol.messages import Message
from fedumm.federation.protocol.wire import from_wire, to_wire
from fedumm.federation.runners.asking import FollowUp
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
    assignments = layout(config)
    # Clients' own hosts take turns on one model.
    shared = Stock(keeps=True) if config.client_data else None
    make = partial(Host, simulated=True, stock=stock or shared)
    hosts = [
        make(name, config.of_client(name), partial(_forward, progress, name), folder.path / CLIENTS, index, count)
        for index, name in enumerate(assignments)
    ]
    server = Server(config, assignments, folder.state, [folder, *map(UserListener, listeners)], balance=True)
    by_name = {host.name: host for host in hosts}

    def handle(name: str, message: Message) -> Message:
        # As on a network: what is no message is found out in the same place.
        return from_wire(to_wire(by_name[name].handle(message)))

    try:
        drive(server, partial(ask_in_turn, handle))
    finally:
        folder.finish()


def ask_in_turn(
    handle: Callable[[str, Message], Message], messages: Mapping[str, Message], follow_up: FollowUp
) -> dict[str, Message]:
    """Ask one host after the other; see :data:`fedumm.federation.runners.asking.Ask`.

    Args:
        handle: gives a host's answer.
    """
    answers: dict[str, Message] = {}
    for name, first in messages.items():
        message: Message | None = first
        while message is not None:
            answers[name] = handle(name, message)
            message = follow_up(name, answers[name])
    return answers


def _forward(progress: HostProgress, host: str, text: str, done: int, total: int) -> None:
    progress(text, done, total, host)
