"""Our messages inside FLARE's, and the name of the one task."""

from __future__ import annotations

from pathlib import Path

from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable

from fedumm.federation.protocol.messages import HostError, Message
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


def answer_of(result: Shareable) -> Message:
    """What a host answered, or what stands for it: an exception would end the task for everybody."""
    code = result.get_return_code()
    try:
        return unpack(result) if code == ReturnCode.OK else HostError(f"NVIDIA FLARE reports {code}")
    except Exception as error:
        return HostError(f"{type(error).__name__}: {error}")


def root_of(fl_ctx: FLContext) -> Path:
    """The folder of this site or server."""
    return Path(fl_ctx.get_engine().get_workspace().get_root_dir())
