"""Our messages inside FLARE's, and the name of the one task."""

from __future__ import annotations

from nvflare.apis.shareable import Shareable

from fedumm.federation.protocol.messages import Message
from fedumm.federation.protocol.wire import from_wire, to_wire

TASK = "fedumm"
_KEY = "message"


class JobAbortedError(Exception):
    """FLARE ended the job: on an administrator's word, or because a host was lost."""


def pack(message: Message) -> Shareable:
    """``message`` as a FLARE shareable. The adapter in it stays bytes: nothing is pickled or converted."""
    shareable = Shareable()
    shareable[_KEY] = to_wire(message)
    return shareable


def unpack(shareable: Shareable) -> Message:
    """The inverse of :func:`pack`.

    Raises:
        ValueError: not such a shareable.
    """
    content = shareable.get(_KEY)
    if not isinstance(content, dict):
        raise ValueError("no message inside")
    return from_wire(content)
