"""What a saved state tells beside its tensors, checked before anything of it is used: a folder may be anybody's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], bool]


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**53)


def _number_or_none(value: Any) -> bool:
    return value is None or _number(value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _version(value: Any) -> bool:
    return value == -1 or _count(value)


def _by_name(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _object(**checks: Check) -> Check:
    return lambda value: isinstance(value, dict) and _wrong(value, checks) is None


def _by_version(check: Check) -> Check:
    """By round, as JSON writes numbers that are names; the untrained adapter's is always there."""
    by_name = _by_name(check)
    return lambda value: by_name(value) and "0" in value and all(n.isdecimal() and n.isascii() for n in value)


def _pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and _number(value[0]) and _count(value[1])


def _task(value: Any) -> bool:
    """A task's scores, as :func:`fedumm.metrics.evaluation.summary` gives them."""
    checks = {"score": _number, "count": _count, "parts": _by_name(_number)}
    known = isinstance(value, dict) and _wrong(value, checks) is None
    return known and _number(value.get("loss", 0.0)) and _by_name(_number)(value.get("others", {}))


_FACTS: dict[str, Check] = {
    "round": _count,
    "fingerprint": _text,
    "fingerprints": _by_name(_text),
    "best": _object(version=_version, scores=_by_name(_by_name(_pair))),
    "scores": _by_version(
        _object(
            heldout=_number_or_none, heldout_tasks=_by_name(_task), heldout_clients=_by_name(_number_or_none),
            heldout_missing=_texts, test=_number_or_none, test_tasks=_by_name(_task),
        )
    ),
    "last_accepted_round": _by_name(_count),
    "digests": _by_name(_text),
    "elapsed": lambda value: _number(value) and 0 <= value < math.inf,
    "records": _count,
    "ended": lambda value: isinstance(value, bool),
}  # fmt: skip


def checked(facts: Any) -> dict[str, Any]:
    """``facts`` as :meth:`fedumm.federation.server.server.Server` saves them.

    Raises:
        ValueError: one is missing, or not of its kind.
    """
    if not isinstance(facts, dict):
        raise ValueError("its facts are no object")
    if wrong := _wrong(facts, _FACTS):
        raise ValueError(f"its entry {wrong!r} is missing or of another kind")
    best, scores = facts["best"], facts["scores"]
    if best["version"] > facts["round"] or (best["version"] >= 0 and str(best["version"]) not in scores):
        raise ValueError("its best version has no scores")
    return facts


def _wrong(value: Mapping[str, Any], checks: Mapping[str, Check]) -> str | None:
    return next((name for name, check in checks.items() if name not in value or not check(value[name])), None)
