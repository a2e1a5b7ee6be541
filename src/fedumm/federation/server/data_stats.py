"""Who has how much: from all hosts' answers to the survey to one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from fedumm.errors import FedummError
from fedumm.federation.protocol.messages import DataStats


def agreed(answers: Mapping[str, DataStats]) -> DataStats:
    """The answer that all hosts gave. Sizes decide what a client weighs: no host may tell others of its own or of
    anybody else's.

    Raises:
        FedummError: they differ. Where more than half say the same, it names the others; else nobody, for one of two
            may be the one that is wrong.
    """
    groups: list[tuple[DataStats, list[str]]] = []
    for host, sizes in answers.items():
        for first, own in groups:
            if (first.fingerprint, first.clients) == (sizes.fingerprint, sizes.clients):
                own.append(host)
                break
        else:
            groups.append((sizes, [host]))
    most, hosts = max(groups, key=lambda group: len(group[1]))
    if len(groups) == 1:
        return most
    others = [host for host in answers if host not in hosts]
    whose = ", ".join(others) if 2 * len(hosts) > len(answers) else f"One or another of {', '.join(answers)}"
    raise FedummError(
        f"{whose} has different data: all hosts must split the same data set. Where every site has data of "
        "its own, use --partition own."
    )


def joined(answers: Mapping[str, DataStats], assignments: Mapping[str, Sequence[str]]) -> DataStats:
    """Of data that are each host's own: each tells of its own clients, and of nobody else's.

    The fingerprint is of all hosts' ones.

    Raises:
        FedummError: a host tells of others, or not of all of its own, or split them.
    """
    clients: dict[str, dict[str, Any]] = {}
    for host, sizes in answers.items():
        if sizes.clients.keys() != set(assignments[host]) or sizes.method != "own":
            raise FedummError(f"{host} tells of other clients than its own, or splits their data.")
        clients |= sizes.clients
    prints = sorted((host, sizes.fingerprint) for host, sizes in answers.items())
    return DataStats(clients, "own", hashlib.sha256(json.dumps(prints).encode()).hexdigest()[:16])
