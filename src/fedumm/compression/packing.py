"""Adapters in few bytes: coded values and, if wanted, only the largest of each tensor.

Meant for what changes little by little: differences against an adapter that the receiver holds. The receiver knows
names, shapes and dtypes (the :data:`Spec`), so the bytes hold none of them:

* a header of 17 bytes: magic, the codec's number, checksum of the spec, ``keep``;
* a bitmap of the tensors that are there, in the order of ``sorted(spec)``;
* for each of these: the positions of its entries, unless all of them travel, then their values
  (:mod:`fedumm.compression.codecs`). Positions are a bitmap of the tensor or an int32 each, whichever is shorter.

All sizes follow from header, bitmap and spec: a payload of another length is refused before any value is read.
Numbers are little-endian.
"""

from __future__ import annotations

import contextlib
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from fedumm.adapters.state import AdapterState, Spec
from fedumm.compression.codecs import Codec, as_bytes
from fedumm.compression.header import HEADER, MAGIC
from fedumm.compression.registry import codec_called, codec_numbered


def pack(state: Mapping[str, torch.Tensor], wire: str, spec: Spec, keep: float = 1.0) -> bytes:
    """``state`` in bytes; equal states give equal bytes.

    Args:
        state: tensors of ``spec``, not necessarily all of them.
        wire: name of a codec (:mod:`fedumm.compression.registry`). ``float32`` is exact: each tensor's own bits, NaN
            included. The others take finite floating-point values.
        spec: what the receiver expects.
        keep: share of entries that travel, above 0 and at most 1: of each tensor the ``round(keep * numel)`` of
            largest magnitude, at least one (of equals the first; NaN is the largest). The others arrive as 0.

    Raises:
        ValueError: ``wire`` or ``keep`` is none of these, or a tensor is not of ``spec`` or cannot be coded.
    """
    codec = codec_called(wire)
    if unknown := sorted(state.keys() - spec.keys()):
        raise ValueError(f"{unknown[0]} is not of the adapter")
    known = sorted(spec)
    parts = [
        HEADER.pack(MAGIC, codec.id, _fingerprint(spec), keep),
        np.packbits(np.array([name in state for name in known], dtype=bool), bitorder="little").tobytes(),
    ]
    for name, place in _places((name for name in known if name in state), spec, codec, keep).items():
        with _named(name):
            parts += _write(state[name].detach(), codec, place)
    return b"".join(parts)


def unpack(payload: bytes, spec: Spec) -> AdapterState:
    """The inverse of :func:`pack`: tensors in the shapes and dtypes of ``spec``, sorted by name.

    What ``float32`` carried is what was packed, bit for bit; everything else is finite.

    Raises:
        ValueError: :func:`pack` does not write such a payload for ``spec``; the message says why.
    """
    codec, keep, names, start = _open(payload, spec)
    places = _places(names, spec, codec, keep)
    expected = start + sum(place.index_bytes + place.value_bytes for place in places.values())
    if len(payload) != expected:
        raise ValueError(f"the payload has {len(payload)} bytes, expected {expected}")
    rest = torch.frombuffer(bytearray(payload), dtype=torch.uint8)[start:]
    state: AdapterState = {}
    for name, place in places.items():
        index, values, rest = rest.tensor_split((place.index_bytes, place.index_bytes + place.value_bytes))
        with _named(name):
            # A copy begins at an address from which any dtype can be read.
            state[name] = _read(index.clone(), values.clone(), codec, place)
    return state


def coding(payload: bytes) -> tuple[str, float]:
    """Name of the codec, and ``keep``, that a payload says of itself.

    Raises:
        ValueError: it does not begin as :func:`pack` does.
    """
    codec, keep, _ = _header(payload)
    return codec.name, keep


def _header(payload: bytes) -> tuple[Codec, float, int]:
    """Codec, ``keep`` and checksum of the spec."""
    if len(payload) < HEADER.size:
        raise ValueError(f"the payload has {len(payload)} bytes, expected at least {HEADER.size}")
    magic, number, checksum, keep = HEADER.unpack_from(payload)
    if magic != MAGIC:
        raise ValueError("not a packed adapter")
    return codec_numbered(number), keep, checksum


def _fingerprint(spec: Spec) -> int:
    """So that two ends whose adapters differ notice, even where the sizes agree."""
    return zlib.crc32(json.dumps(sorted((name, list(shape), dtype) for name, (shape, dtype) in spec.items())).encode())


def _open(payload: bytes, spec: Spec) -> tuple[Codec, float, list[str], int]:
    """Codec, ``keep``, names of the tensors that follow, and where they begin."""
    known = sorted(spec)
    start = HEADER.size + -(-len(known) // 8)
    if len(payload) < start:
        raise ValueError(f"the payload has {len(payload)} bytes, expected at least {start}")
    codec, keep, fingerprint = _header(payload)
    if fingerprint != _fingerprint(spec):
        raise ValueError("packed for an adapter of other names, shapes or dtypes")
    there = np.unpackbits(np.frombuffer(payload, np.uint8)[HEADER.size : start], bitorder="little").astype(bool)
    if there[len(known) :].any():
        raise ValueError("more tensors than the adapter has")
    return codec, keep, [name for name, present in zip(known, there, strict=False) if present], start


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors inside begin with a tensor's name."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


@dataclass(frozen=True)
class _Place:
    """One tensor, ``kept`` of whose entries travel, and the bytes that they take."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    kept: int
    value_bytes: int

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def bitmap_bytes(self) -> int:
        return -(-self.count // 8)

    @property
    def index_bytes(self) -> int:
        return min(self.bitmap_bytes, 4 * self.kept) if self.kept < self.count else 0


def _places(names: Iterable[str], spec: Spec, codec: Codec, keep: float) -> dict[str, _Place]:
    if not 0 < keep <= 1:
        raise ValueError(f"the share to keep is {keep}, not above 0 and at most 1")
    places = {}
    for name in names:
        with _named(name):
            places[name] = _place(*spec[name], codec, keep)
    return places


def _place(shape: tuple[int, ...], dtype_name: str, codec: Codec, keep: float) -> _Place:
    dtype = getattr(torch, dtype_name)
    count = math.prod(shape)
    kept = min(count, max(1, round(keep * count)))
    if not dtype.is_floating_point and (not codec.exact or kept < count):
        raise ValueError(f"{dtype_name} travels whole and as float32 only")
    return _Place(tuple(shape), dtype, kept, codec.size(kept, dtype))


def _write(tensor: torch.Tensor, codec: Codec, place: _Place) -> list[bytes]:
    if (tuple(tensor.shape), tensor.dtype) != (place.shape, place.dtype):
        raise ValueError(f"{tensor.dtype}{list(tensor.shape)}, expected {place.dtype}{list(place.shape)}")
    if not codec.exact and not torch.isfinite(tensor).all():
        raise ValueError(f"NaN or infinite values cannot be coded as {codec.name}")
    values = tensor.reshape(-1)
    if place.kept == place.count:
        return [codec.encode(values)]
    index = _largest(values, place.kept)
    return [_write_index(index, place), codec.encode(values[index])]


def _read(index: torch.Tensor, values: torch.Tensor, codec: Codec, place: _Place) -> torch.Tensor:
    decoded = codec.decode(values, place.kept, place.dtype)
    if place.kept < place.count:
        whole = torch.zeros(place.count, dtype=place.dtype)
        whole[_read_index(index, place)] = decoded
        decoded = whole
    return decoded.reshape(place.shape)


def _largest(values: torch.Tensor, kept: int) -> torch.Tensor:
    """Ascending positions of the ``kept`` entries of largest magnitude."""
    magnitudes = values.double().abs().nan_to_num(nan=math.inf, posinf=math.inf)
    least = magnitudes.kthvalue(len(values) - kept + 1).values
    chosen = magnitudes > least
    equal = (magnitudes == least).nonzero().flatten()
    chosen[equal[: kept - int(chosen.sum())]] = True
    return chosen.nonzero().flatten()


def _write_index(index: torch.Tensor, place: _Place) -> bytes:
    if place.index_bytes < place.bitmap_bytes:
        return as_bytes(index.int())
    chosen = np.zeros(place.count, dtype=bool)
    chosen[index.numpy()] = True
    return np.packbits(chosen, bitorder="little").tobytes()


def _read_index(raw: torch.Tensor, place: _Place) -> torch.Tensor:
    if place.index_bytes < place.bitmap_bytes:
        index = raw.view(torch.int32).long()
    else:
        index = torch.from_numpy(np.unpackbits(raw.numpy(), bitorder="little")).nonzero().flatten()
    ascending = len(index) == place.kept and bool((index[1:] > index[:-1]).all())
    if not ascending or index[0] < 0 or index[-1] >= place.count:
        raise ValueError(f"not {place.kept} ascending positions among {place.count}")
    return index
