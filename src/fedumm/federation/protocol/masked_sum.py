"""What server and hosts work out alike of a masked sum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from fedumm.config import FederateConfig
from fedumm.federation.protocol.client_view import steps_of


def least_threshold(count: int) -> int:
    """Of ``count`` clients, how many must take part in taking masks off: more than half, so that a server can't have
    two parts of them give both shares of one; and two, so that it never sees one alone."""
    return max(2, count // 2 + 1)


def purpose(what: str, number: int) -> str:
    """What a secret of two clients is for: another one for each round."""
    return f"{what} {number}"


def about(agreed: str, sender: str, receiver: str) -> bytes:
    """What a sealed share is about: it can be opened only by who was shown the same keys (:func:`agreement`)."""
    return json.dumps([agreed, sender, receiver]).encode()


def agreement(number: int, keys: Mapping[str, Sequence[bytes]], threshold: int) -> str:
    """A digest of what clients agree on before a round: whose keys count, and how many take masks off."""
    own = {client: [key.hex() for key in pair] for client, pair in keys.items()}
    return hashlib.sha256(json.dumps([number, own, threshold], sort_keys=True).encode()).hexdigest()


def statement(run: str, number: int, client: str, pair: Sequence[bytes]) -> bytes:
    """What a site signs of its keys.

    Args:
        run: as the site knows it.
        number: of the round.
    """
    return json.dumps(["fedumm keys for masks", run, number, client, *(key.hex() for key in pair)]).encode()


def weight_of(config: FederateConfig, rows: int) -> int:
    """What a client with ``rows`` training rows counts in the sum, by ``--client_weights``."""
    return {"samples": rows, "equal": 1, "steps": steps_of(config, rows)}[config.weights]
