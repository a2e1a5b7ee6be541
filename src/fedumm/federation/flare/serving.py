"""A host at the other end of a connection: it answers one message after the other."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from fedumm.errors import FedummError
from fedumm.federation.messages import HostError, from_wire, to_wire

if TYPE_CHECKING:
    from fedumm.federation.host import Host


def answer_messages(connection: Connection[Any, Any], make_host: Callable[[], Host]) -> None:
    """Answer what comes, with a host that is made when the first message does.

    Raises:
        EOFError: the other end was closed.
    """
    host: Host | None = None
    while True:
        message = from_wire(connection.recv())
        try:
            if host is None:
                host = make_host()
            answer = host.handle(message)
        except FedummError as error:
            answer = HostError(str(error))
        connection.send(to_wire(answer))
