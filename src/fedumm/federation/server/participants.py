"""Who takes part in a run, on which host, with how much data: the same in every round."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.assignment import balanced, natural
from fedumm.federation.protocol.messages import DataStats
from fedumm.federation.server.data_stats import agreed, joined
from fedumm.federation.server.score_validation import MOST_SAMPLES


@dataclass(frozen=True)
class Participants:
    """The clients of a run.

    Attributes:
        assignments: host name to the names of its clients.
        clients: by name, in the roster's order: rows in ``train`` and ``heldout``, training rows in ``tasks`` and
            ``labels``.
        method: how the data were split.
        fingerprint: tells this split from others.
        fingerprints: by host, where each has data of its own: a resumed run must find the same there.
    """

    assignments: dict[str, list[str]]
    clients: dict[str, dict[str, Any]]
    method: str
    fingerprint: str
    fingerprints: dict[str, str]

    @property
    def roster(self) -> list[str]:
        """All clients in order."""
        return list(self.clients)

    @property
    def rows(self) -> dict[str, int]:
        """By client, its training rows."""
        return {client: own["train"] for client, own in self.clients.items()}

    @property
    def hosts(self) -> list[str]:
        """All hosts in order."""
        return sorted(self.assignments, key=natural)

    def without(self, hosts: Collection[str]) -> Participants:
        """The participants but for all clients of these hosts."""
        served = {host: own for host, own in self.assignments.items() if host not in hosts}
        clients = {name: self.clients[name] for name in in_order(served.values())}
        return replace(self, assignments=served, clients=clients)

    def by_host(self, clients: Collection[str]) -> dict[str, list[str]]:
        """Those of ``clients`` that each host serves."""
        return {host: [c for c in own if c in clients] for host, own in self.assignments.items()}


def find_participants(
    config: FederateConfig, assignments: Mapping[str, Sequence[str]], answers: Mapping[str, DataStats], balance: bool
) -> Participants:
    """The clients by what the hosts say of their data.

    Args:
        balance: clients may move to other hosts, so that all train about as many samples.

    Raises:
        FedummError: hosts disagree on the data, or a client has no samples, or more than there can be.
    """
    whole = joined(answers, assignments) if config.own_data else agreed(answers)
    clients = {}
    for client in in_order(assignments.values()):
        if not 0 < whole.clients.get(client, {"train": 0})["train"] <= MOST_SAMPLES:
            raise FedummError(f"{client} reports an invalid number of training samples.")
        clients[client] = whole.clients[client]
    served = {host: list(own) for host, own in assignments.items()}
    if balance and not config.own_data:
        served = balanced({name: own["train"] for name, own in clients.items()}, list(assignments))
    prints = {host: own.fingerprint for host, own in answers.items()} if config.own_data else {}
    return Participants(served, clients, whole.method, whole.fingerprint, prints)


def in_order(clients_by_host: Iterable[Sequence[str]]) -> list[str]:
    """The clients of all hosts, in the roster's order."""
    return sorted((client for own in clients_by_host for client in own), key=natural)
