"""A secret in parts, any ``threshold`` of which give it back, and fewer nothing (Shamir, 1979,
https://doi.org/10.1145/359168.359176)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

_PRIME = 2**521 - 1
SECRET, SHARE = 32, 66
"""Bytes of a secret, and of a share of it."""


def split(secret: bytes, threshold: int, places: Sequence[int]) -> dict[int, bytes]:
    """A share for each of ``places``, which are different numbers from 1.

    Raises:
        ValueError: the secret is not of 32 bytes, or there are fewer places than the threshold.
    """
    if len(secret) != SECRET or not 1 <= threshold <= len(set(places)) or min(places) < 1:
        raise ValueError(f"a secret of {len(secret)} bytes can't be shared out to {len(places)}, {threshold} of them")
    # Of a polynomial of degree threshold - 1, the secret is the value at 0.
    coefficients = [int.from_bytes(secret, "big"), *(secrets.randbelow(_PRIME) for _ in range(threshold - 1))]
    shares = {}
    for place in places:
        value = 0
        for coefficient in reversed(coefficients):
            value = (value * place + coefficient) % _PRIME
        shares[place] = value.to_bytes(SHARE, "big")
    return shares


def join(shares: Mapping[int, bytes]) -> bytes:
    """The secret, from as many shares as the threshold was, by place; from fewer or false ones something else.

    Raises:
        ValueError: what they give is no secret: one is false, or they are too few.
    """
    secret = 0
    for place, share in shares.items():
        above = below = 1
        for other in shares:
            if other != place:
                above, below = above * other % _PRIME, below * (other - place) % _PRIME
        secret += int.from_bytes(share, "big") * above * pow(below, -1, _PRIME)
    try:
        return (secret % _PRIME).to_bytes(SECRET, "big")
    except OverflowError:
        raise ValueError("the shares of a secret do not fit together") from None
