"""A host at the other end of a connection: it answers one message after the other."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from fedumm.federation.protocol.messages import HostError, Message
from fedumm.federation.protocol.wire import from_wire, to_wire
from fedumm.federation.runners.flare.framing import receive, send

if TYPE_CHECKING:
    from fedumm.federation.client.host import Host


def answer_messages(
    connection: Connection[Any, Any], make_host: Callable[[], Host], failed: Callable[[Exception, Message], HostError]
) -> None:
    """Answer what comes, with a host that is made when the first message does.

    Args:
        failed: what is answered where no host can be made.

    Raises:
        EOFError: the other end was closed.
    """
    host: Host | None = None
    while True:
        message = from_wire(receive(connection))
        try:
            if host is None:
                host = make_host()
            answer = host.handle(message)
        except Exception as error:
            answer = failed(error, message)
        send(connection, to_wire(answer))
