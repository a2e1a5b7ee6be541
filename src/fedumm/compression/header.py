"""The beginning of a packed adapter, which says what follows; read without torch."""

from __future__ import annotations

import json
import struct

MAGIC = b"FMM1"
HEADER = struct.Struct("<4sBId")
"""Magic, the codec's number, checksum of the spec, share of entries that travel."""

_LENGTH = struct.Struct("<Q")
"""Of the names at the beginning of a safetensors image."""


def tensors_in(payload: bytes, known: int) -> int:
    """How many tensors are in ``payload``, which :func:`fedumm.compression.packing.pack` or safetensors has made.

    Args:
        known: tensors of the adapter that it is of.

    Raises:
        ValueError: neither has made it.
    """
    if payload[: len(MAGIC)] == MAGIC:
        bitmap = payload[HEADER.size : HEADER.size + -(-known // 8)]
        return sum(byte.bit_count() for byte in bitmap)
    if len(payload) < _LENGTH.size:
        raise ValueError(f"{len(payload)} bytes are no adapter")
    (length,) = _LENGTH.unpack_from(payload)
    names = json.loads(payload[_LENGTH.size : _LENGTH.size + length])
    return len(names.keys() - {"__metadata__"})
