"""Plain values on a connection between two of our processes: MessagePack, never pickle, and of a bounded size."""

from __future__ import annotations

from multiprocessing.connection import Connection
from typing import Any

import msgpack

MOST_BYTES = 2**32 - 1
"""Of one message: what MessagePack can count."""


def send(connection: Connection[Any, Any], value: dict[str, Any]) -> None:
    """Send strings, numbers, bytes, None, and lists, tuples and dictionaries (with strings as keys) of them.

    Raises:
        OSError: the other end is gone.
    """
    connection.send_bytes(msgpack.packb(value))


def receive(connection: Connection[Any, Any]) -> dict[str, Any]:
    """What :func:`send` sent; tuples come as lists.

    Raises:
        EOFError: the other end is gone.
        OSError: it is, or what came is too long.
        ValueError: no such value.
    """
    value = msgpack.unpackb(connection.recv_bytes(MOST_BYTES))
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__} came instead of a message")
    return value
