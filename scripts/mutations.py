"""How ``fuzz.py`` damages bytes, and values made of dictionaries and lists."""

from __future__ import annotations

import copy
import random
from typing import Any

STRANGE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, 0.0, -1.5, 1e308, float("nan"), float("inf"), "", "x",
    "\x1b[2J", "\u202e", "\ud800", "../x", "x" * 10_000, b"", b"x" * 99, [], {}, [[]], [None] * 5, {"a": 1},
    {1: 2}, {None: []}, (), 3j,
)  # fmt: skip


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """Bits turned, parts cut out, doubled, put elsewhere or replaced; numbers at the edge of what there are."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        place, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 8, 64))
        match rng.randrange(7):
            case 0 if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            case 1:
                del data[place : place + length]
            case 2:
                data[place:place] = rng.randbytes(length)
            case 3:
                data[place : place + length] = rng.randbytes(length)
            case 4:
                data[place : place + length] = rng.choice((b"\xff", b"\0", b"\x7f")) * length
            case 5:
                data[place:place] = data[place : place + 4 * length]
            case _:
                del data[place:]
    return bytes(data)


def mutated(value: Any, rng: random.Random) -> Any:
    """Something in it is another value, is missing, is there twice, or has another name."""
    value = copy.deepcopy(value)
    own = value
    while True:
        keys = list(own) if isinstance(own, dict) else list(range(len(own))) if isinstance(own, list) else []
        if not keys:
            return rng.choice(STRANGE)
        key = rng.choice(keys)
        if isinstance(own[key], dict | list) and own[key] and rng.random() < 0.75:
            own = own[key]
            continue
        break
    match rng.randrange(5):
        case 0:
            del own[key]
        case 1 if isinstance(own, dict):
            own[rng.choice([k for k in STRANGE if not isinstance(k, dict | list)])] = own[key]
        case 1:
            own *= rng.choice((2, 3, 200_000))
        case 2 if isinstance(own[key], bytes):
            own[key] = mutated_bytes(own[key], rng)
        case _:
            own[key] = rng.choice(STRANGE)
    return value
