"""Who has how much: from all hosts' answers to the survey to one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from fedumm.errors import FedummError
from fedumm.federation.messages import Sizes


def joined(answers: Mapping[str, Sizes], assignments: Mapping[str, Sequence[str]]) -> Sizes:
    """Of data that are each host's own: each tells of its own clients, and of nobody else's.

    The fingerprint is of all hosts' ones: a run that goes on must find the same data everywhere.

    Raises:
        FedummError: a host tells of others, or not of all of its own, or split them.
    """
    clients: dict[str, dict[str, Any]] = {}
    for host, sizes in answers.items():
        if sizes.clients.keys() != set(assignments[host]) or sizes.method != "own":
            raise FedummError(f"{host} tells of other clients than its own, or splits their data.")
        clients |= sizes.clients
    prints = sorted((host, sizes.fingerprint) for host, sizes in answers.items())
    return Sizes(clients, "own", hashlib.sha256(json.dumps(prints).encode()).hexdigest()[:16])
