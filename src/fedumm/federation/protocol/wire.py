"""Messages on the wire: plain dictionaries of strings, numbers, lists and bytes, checked on arrival."""

from __future__ import annotations

from dataclasses import asdict
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from fedumm.federation.protocol.mask_messages import (
    MaskKeys,
    MaskKeysRequest,
    MaskShares,
    MaskSharesRequest,
    Unmasking,
    UnmaskRequest,
)
from fedumm.federation.protocol.messages import (
    ClientUpdate,
    DataStats,
    DataStatsRequest,
    HostError,
    InitReply,
    InitRequest,
    Message,
    RoundReply,
    RoundTask,
    TensorPayload,
)
from fedumm.federation.protocol.reply_fields import REPLIES
from fedumm.federation.protocol.versions import check_protocol
from fedumm.texts import one_line

_REQUESTS = (DataStatsRequest, InitRequest, RoundTask, MaskKeysRequest, MaskSharesRequest, UnmaskRequest)
_PLAIN: dict[str, Any] = {kind.__name__: kind for kind in _REQUESTS}
_REPLIES: dict[str, Any] = {
    kind.__name__: kind for kind in (DataStats, InitReply, RoundReply, HostError, MaskKeys, MaskShares, Unmasking)
}


def to_wire(message: Message) -> dict[str, Any]:
    """A plain dictionary with the message's kind under ``kind``. Its texts can be encoded, whatever was in them."""
    content: dict[str, Any] = _encodable(asdict(message))
    return {"kind": type(message).__name__, **content}


def _encodable(value: Any) -> Any:
    """Lone surrogates, which what carries messages stops at, by their numbers."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(name): _encodable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_encodable(one) for one in value)
    return value


def from_wire(data: dict[str, Any]) -> Message:
    """The inverse of :func:`to_wire`, but for texts for people, which are made to be shown (:mod:`fedumm.texts`).

    Raises:
        ValueError: unknown kind, unknown or missing fields, or fields of the wrong type or size.
        PublicError: the server speaks another protocol.
    """
    try:
        fields = {k: v for k, v in data.items() if k != "kind"}
        kind = data.get("kind")
        if kind in REPLIES:
            fields = REPLIES[kind](fields)
            if kind == "RoundReply":
                fields["updates"] = [ClientUpdate(**update) for update in fields["updates"]]
            reply: Message = _REPLIES[kind](**fields)
            return reply
        if kind == "RoundTask":
            fields["adapter"] = _payload(fields["adapter"])
            fields["control"] = _payload(fields["control"]) if fields["control"] is not None else None
        if kind == "DataStatsRequest":
            # Before anything else of it: what another protocol means by it is not known.
            check_protocol(fields.get("versions"))
        message: Message = _PLAIN[data["kind"]](**fields)
        if isinstance(message, _REQUESTS):
            for name, hint in get_type_hints(type(message)).items():
                if not _is(getattr(message, name), hint):
                    raise ValueError(f"{name} is not a {hint}")
        return message
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ValueError(f"not a message: {one_line(error)}") from error


def _payload(data: dict[str, Any]) -> TensorPayload:
    payload = TensorPayload(**data)
    if type(payload.mode) is not str or type(payload.payload) is not bytes:
        raise ValueError("not a payload")
    return payload


def _is(value: Any, hint: Any) -> bool:
    """Whether ``value`` is of the type ``hint``: a class, a union, or a list or dictionary of such."""
    kinds = get_args(hint)
    if isinstance(hint, UnionType):
        return any(_is(value, kind) for kind in kinds)
    if get_origin(hint) is list:
        return type(value) is list and all(_is(item, kinds[0]) for item in value)
    if get_origin(hint) is dict:
        return type(value) is dict and all(_is(k, kinds[0]) and _is(v, kinds[1]) for k, v in value.items())
    return type(value) is hint
