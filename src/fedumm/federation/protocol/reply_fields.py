"""What a host may answer: every field's type and bounds, checked as a message comes in.

A table for each kind gives, for each field, the function that takes its value from the wire: it gives back what may
be used, or raises a :class:`ValueError`. Texts for people are made one line (:mod:`fedumm.texts`), names that are
compared must be one already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from fedumm.features.report import CacheReport
from fedumm.federation.protocol.messages import ADAPTER, SETUP
from fedumm.metrics.evaluation import Evaluation
from fedumm.texts import is_plain, one_line, plain_lines

MOST_CLIENTS, MOST_LABELS, MOST_PARTS, MOST_TENSORS, MOST_NOTES = 100_000, 100_000, 1000, 1_000_000, 20
MOST_OTHERS = 20
"""Scores beside a task's own."""

_DTYPES = frozenset({"float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"})
_KEPT = ("", "memory", "disk")
_DEEPEST, _MOST_OPTIONS, _LONGEST_OPTION = 6, 10_000, 10_000
_LONGEST_KEY, _LONGEST_SHARE = 32, 256
LONGEST_CERTIFICATE = 4096
"""Bytes of a site's certificate or signature; FLARE's are of about 1,000 and of 256."""

_WIDEST = 2**40
"""Values of one tensor: far more than any host holds."""

Take = Callable[[Any], Any]


def _whole(least: int = -(2**63), most: int = 2**63 - 1) -> Take:
    def take(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            bounds = f" of {least} to {most}" if least >= 0 else ""
            raise ValueError(f"is not a whole number{bounds}")
        return value

    return take


def _number(value: Any) -> float:
    """NaN and infinities too: whether a number is valid for its field is checked where it is used."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("is not a number")
    if abs(value) > 2**1023 and not isinstance(value, float):
        raise ValueError("is too large a number")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("is not a text")
    return one_line(value)


def _lines(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("is not a text")
    return plain_lines(value)


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("is not a name")
    if not value or not is_plain(value):
        raise ValueError(f"is not a name: {one_line(value, 60)}")
    return value


def _bytes(value: Any) -> bytes:
    if type(value) is not bytes:
        raise ValueError("is not bytes")
    return value


def _bytes_of(most: int) -> Take:
    def take(value: Any) -> bytes:
        if len(_bytes(value)) > most:
            raise ValueError(f"is longer than {most} bytes")
        return bytes(value)

    return take


def _one_of(*known: str) -> Take:
    def take(value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise ValueError("is none of those that there are")
        return value

    return take


def _optional(own: Take) -> Take:
    return lambda value: None if value is None else own(value)


def _list(own: Take, most: int, cut: bool = False) -> Take:
    """A list of at most ``most``; a longer one is refused, or cut."""

    def take(value: Any) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise ValueError("is not a list")
        if len(value) > most and not cut:
            raise ValueError(f"holds {len(value)} things, more than {most}")
        return [_of(f"entry {place}", own, one) for place, one in enumerate(value[:most], 1)]

    return take


def _mapping(key: Take, own: Take, most: int, cut: bool = False) -> Take:
    """By name; where names that are not compared become the same on one line, the first counts."""

    def take(value: Any) -> dict[Any, Any]:
        if not isinstance(value, dict):
            raise ValueError("is not a mapping")
        if len(value) > most and not cut:
            raise ValueError(f"holds {len(value)} things, more than {most}")
        result: dict[Any, Any] = {}
        for name, one in list(value.items())[:most]:
            result.setdefault(_of("a name in it", key, name), _of(one_line(name, 60), own, one))
        return result

    return take


def _pair(first: Take, second: Take) -> Take:
    def take(value: Any) -> tuple[Any, Any]:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise ValueError("is not a pair")
        return first(value[0]), second(value[1])

    return take


def _of(name: str, own: Take, value: Any) -> Any:
    try:
        return own(value)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def _record(table: Mapping[str, Take]) -> Take:
    """Exactly the fields of ``table``."""

    def take(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError("is not a mapping")
        if missing := sorted(table.keys() - value.keys()):
            raise ValueError(f"has no {missing[0]}")
        if strange := value.keys() - table.keys():
            raise ValueError(f"has a field too many: {min(one_line(name, 60) for name in strange)}")
        return {name: _of(name, own, value[name]) for name, own in table.items()}

    return take


def _shape(value: Any) -> tuple[tuple[int, ...], str]:
    sizes, dtype = _pair(_list(_whole(0, 2**31), 8), _one_of(*_DTYPES))(value)
    if math.prod(sizes) > _WIDEST:
        raise ValueError("is too large")
    return tuple(sizes), dtype


def _labels(value: Any) -> dict[str, int]:
    """Labels are texts of the data: those that are the same once they can be shown are counted together."""
    counts: dict[str, int] = {}
    for label, count in _mapping(lambda name: name, _whole(0), MOST_LABELS)(value).items():
        counts[_text(label)] = counts.get(_text(label), 0) + count
    return counts


def _evaluation(value: Any) -> Evaluation:
    return Evaluation(**_EVALUATION(value))


def _options(value: Any) -> dict[str, Any]:
    """An adapter's configuration: plain values, as JSON has them, with a rank and a scale that one can divide by."""
    if not isinstance(value, dict):
        raise ValueError("is not a mapping")
    _check_plain(value, _DEEPEST, [_MOST_OPTIONS])
    if "r" in value:
        _of("r", _whole(1, 2**20), value["r"])
    if "lora_alpha" in value and not 0 < _of("lora_alpha", _number, value["lora_alpha"]) < math.inf:
        raise ValueError("lora_alpha is not a positive number")
    return value


def _check_plain(value: Any, deepest: int, left: list[int]) -> None:
    left[0] -= 1
    if not deepest or not left[0]:
        raise ValueError("is too large")
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        for one in value:
            _check_plain(one, deepest - 1, left)
    elif isinstance(value, str):
        if not is_plain(value, _LONGEST_OPTION):
            raise ValueError("holds a text that no option can have")
    elif value is not None and not isinstance(value, bool | int | float):
        raise ValueError("holds what is no option")


_COUNT = _whole(0)
_TASK = _name
_EVALUATION = _record(
    {
        "score": _number,
        "count": _whole(),
        "parts": _mapping(_name, _pair(_number, _whole()), MOST_PARTS),
        "loss": _optional(_number),
        "others": _mapping(_name, _number, MOST_OTHERS),
    }
)
_SCORES = _mapping(_TASK, _evaluation, 100)
_CLIENT = _record(
    {
        "train": _COUNT,
        "heldout": _COUNT,
        "tasks": _mapping(_TASK, _whole(1), 100),
        "labels": _labels,
    }
)
_UPDATE = _record(
    {
        "client": _name,
        "round": _whole(),
        "adapter": _bytes,
        "untrained": _list(_name, MOST_TENSORS),
        "num_samples": _whole(),
        "steps": _whole(),
        "train_loss": _number,
        "train_losses": _mapping(_TASK, _number, 100),
        "before": _SCORES,
        "after": _SCORES,
        "seconds_train": _number,
        "seconds_eval": _number,
        "error": _text,
        "control": _bytes,
    }
)
_CACHE = _record(
    {
        "name": _text,
        "kept": _one_of(*_KEPT),
        "bytes": _COUNT,
        "images": _COUNT,
        "computed": _COUNT,
        "note": _text,
        "remade": _COUNT,
    }
)


def _update(value: Any) -> dict[str, Any]:
    """A malformed update is its client's failure, and not its host's."""
    try:
        fields: dict[str, Any] = _UPDATE(value)
        return fields
    except ValueError as error:
        client = value.get("client") if isinstance(value, dict) else None
        if not isinstance(client, str) or not client or not is_plain(client):
            raise ValueError(f"has no client's name, and {error}") from error
        return {"client": client, "round": 0, "error": one_line(f"not an update: {error}")}


REPLIES: dict[str, Take] = {
    "DataStats": _record({"clients": _mapping(_name, _CLIENT, MOST_CLIENTS), "method": _text, "fingerprint": _name}),
    "InitReply": _record(
        {
            "spec": _mapping(_name, _shape, MOST_TENSORS),
            "adapter_config": _options,
            "trainable": _COUNT,
            "total": _whole(1),
            "adapter": _bytes,
            "test_samples": _whole(0, 10**9),
            "cache": _list(lambda value: CacheReport(**_CACHE(value)), 20),
            "device": _text,
            "versions": _mapping(_text, _text, MOST_NOTES, cut=True),
            "digest": _text,
            "fingerprint": _text,
            "findings": _list(_text, MOST_NOTES, cut=True),
        }
    ),
    "RoundReply": _record(
        {
            "updates": _list(_update, MOST_CLIENTS),
            "test": _SCORES,
            "seconds": _number,
            "notes": _list(_text, MOST_NOTES, cut=True),
            "folding_error": _optional(_number),
        }
    ),
    "MaskKeys": _record(
        {
            "keys": _mapping(_name, _list(_bytes_of(_LONGEST_KEY), 2), MOST_CLIENTS),
            "signatures": _mapping(_name, _list(_bytes_of(LONGEST_CERTIFICATE), 2), MOST_CLIENTS),
        }
    ),
    "MaskShares": _record(
        {
            "shares": _mapping(_name, _mapping(_name, _bytes_of(_LONGEST_SHARE), MOST_CLIENTS), MOST_CLIENTS),
            "digests": _mapping(_name, _bytes_of(_LONGEST_KEY), MOST_CLIENTS),
        }
    ),
    "Unmasking": _record(
        {"shares": _mapping(_name, _mapping(_name, _bytes_of(_LONGEST_SHARE), MOST_CLIENTS), MOST_CLIENTS)}
    ),
    "HostError": _record({"message": _text, "details": _lines, "needs": _one_of("", SETUP, ADAPTER)}),
}
"""By kind of message, what its fields are to be. Of an update, those of ``ClientUpdate``."""
