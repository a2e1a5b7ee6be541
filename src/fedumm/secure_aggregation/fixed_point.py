"""Updates as whole numbers, whose sum is exact and in which masks cancel.

A value is a 32-bit number of units of 2^-28, modulo 2^32. A client multiplies what it moved with its share of the
round's weight before it rounds, so that sums stay in range. Each client's rounding adds at most half a unit, 2^-29 or
about 2e-9, to the error of the sum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fedumm.adapters.state import AdapterState, Spec
from fedumm.lazy import torch

Words = npt.NDArray[np.uint32]
"""Numbers modulo 2^32, in one dimension."""

GRID = 2.0**-28
MOST = 4.0
"""The farthest that a value may move in a round. Sums have room for twice as much, and so for all roundings."""


def count_of(names: Sequence[str], spec: Spec) -> int:
    """How many values the tensors ``names`` have together."""
    return sum(math.prod(spec[name][0]) for name in names)


def to_words(moves: Mapping[str, torch.Tensor], share: float, names: Sequence[str], spec: Spec) -> Words:
    """A client's part of the sum.

    Args:
        moves: by tensor, what was added to it; one that is missing was not trained, and counts as 0.
        share: of the round's weight, above 0 and at most 1.
        names: the tensors that travel, in this order.
        spec: their shapes.

    Raises:
        ValueError: a value is NaN, infinite, or above :data:`MOST` in magnitude.
    """
    parts = []
    for name in names:
        if name not in moves:
            parts.append(np.zeros(math.prod(spec[name][0])))
            continue
        values = moves[name].detach().to("cpu", torch.float64).reshape(-1).numpy()
        largest = float(np.abs(values).max(initial=0.0))
        if not largest <= MOST:
            raise ValueError(f"{name} moved by {largest:g} in one round, more than {MOST:g}")
        parts.append(np.rint(share * values / GRID))
    whole = np.concatenate(parts) if parts else np.zeros(0)
    return whole.astype(np.int64).astype(np.uint32)


def from_words(words: Words, factor: float, names: Sequence[str], spec: Spec) -> AdapterState:
    """The sums of the tensors ``names``, each times ``factor``, in float64.

    Args:
        words: the sum of clients' parts, in the order of ``names``.
    """
    values = words.astype(np.int32).astype(np.float64)
    result, place = {}, 0
    for name in names:
        shape = spec[name][0]
        size = math.prod(shape)
        result[name] = torch.from_numpy(values[place : place + size] * GRID * factor).reshape(shape)
        place += size
    return result


def to_bytes(words: Words) -> bytes:
    """Four bytes a word, little-endian."""
    return words.astype("<u4").tobytes()


def from_bytes(payload: bytes) -> Words:
    """The inverse of :func:`to_bytes`.

    Raises:
        ValueError: not whole words.
    """
    return np.frombuffer(payload, dtype="<u4").astype(np.uint32)
