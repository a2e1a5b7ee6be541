"""What server and hosts work out alike of a masked sum."""

from __future__ import annotations

import json

from fedumm.config import FederateConfig
from fedumm.federation.protocol.client_view import steps_of


def least_threshold(count: int) -> int:
    """Of ``count`` clients, how many must take part in taking masks off: more than half, so that a server can't have
    two parts of them answer differently; and two, so that it never sees one alone."""
    return max(2, count // 2 + 1)


def purpose(what: str, number: int) -> str:
    """What a secret of two clients is for: another one for each round."""
    return f"{what} {number}"


def about(number: int, sender: str, receiver: str) -> bytes:
    """What a sealed share is about."""
    return json.dumps([number, sender, receiver]).encode()


def weight_of(config: FederateConfig, rows: int) -> int:
    """What a client with ``rows`` training rows counts in the sum, by ``--client_weights``."""
    return {"samples": rows, "equal": 1, "steps": steps_of(config, rows)}[config.weights]
