"""Vectors as bytes, in as many bits a value as one likes: the codecs behind ``--wire``.

All but the exact one go through float32, take finite values and give finite values, of at most the largest magnitude
that their receiver's dtype has. A new codec is a class here, with a name and a number of its own, and a name in
:data:`fedumm.compression.registry.WIRES`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from statistics import NormalDist
from typing import ClassVar

import torch

BLOCK = 64
"""Values that share a scale. A vector's last block may be shorter."""


def as_bytes(tensor: torch.Tensor) -> bytes:
    """The memory of a tensor of one dimension or more, row by row."""
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def _cast(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The nearest of ``dtype``; beyond its range, its largest finite one."""
    limit = min(torch.finfo(dtype).max, torch.finfo(values.dtype).max)
    return values.clamp(-limit, limit).to(dtype)


class Codec(ABC):
    """How a vector is written. ``count`` is its length, ``dtype`` its own and its receiver's."""

    id: ClassVar[int]
    """Stands for it on the wire, 0 to 255. It never changes, nor is it given to another."""

    name: ClassVar[str]
    """What ``--wire`` calls it; registration sets it."""

    exact: ClassVar[bool] = False
    """Whether every bit arrives, of integers, NaN and infinity as well."""

    @abstractmethod
    def size(self, count: int, dtype: torch.dtype) -> int:
        """Number of bytes."""

    @abstractmethod
    def encode(self, values: torch.Tensor) -> bytes:
        """The bytes of ``values``."""

    @abstractmethod
    def decode(self, raw: torch.Tensor, count: int, dtype: torch.dtype) -> torch.Tensor:
        """The vector that ``raw`` (uint8, :meth:`size` of them) stands for.

        Raises:
            ValueError: :meth:`encode` does not write that.
        """


class Exact(Codec):
    """The vector's own bits."""

    id, name, exact = 0, "float32", True

    def size(self, count: int, dtype: torch.dtype) -> int:
        """As many as in memory."""
        return count * dtype.itemsize

    def encode(self, values: torch.Tensor) -> bytes:
        """A copy."""
        return as_bytes(values)

    def decode(self, raw: torch.Tensor, count: int, dtype: torch.dtype) -> torch.Tensor:
        """A view of ``raw``."""
        return raw.view(dtype)


class Short(Codec):
    """The nearest values of a shorter type; what is too large for it becomes its largest."""

    _dtype: ClassVar[torch.dtype]

    def size(self, count: int, dtype: torch.dtype) -> int:
        """Those of the shorter type."""
        return count * self._dtype.itemsize

    def encode(self, values: torch.Tensor) -> bytes:
        """Round to nearest, ties to even."""
        return as_bytes(_cast(_cast(values, torch.float32), self._dtype))

    def decode(self, raw: torch.Tensor, count: int, dtype: torch.dtype) -> torch.Tensor:
        """Refuses NaN and infinity."""
        values = raw.view(self._dtype)
        if not torch.isfinite(values).all():
            raise ValueError("NaN or infinite values")
        return _cast(values.float(), dtype)


class Bfloat16(Short):
    """8 bits of exponent, 7 of mantissa."""

    id, name, _dtype = 1, "bfloat16", torch.bfloat16


class Float16(Short):
    """5 bits of exponent, 10 of mantissa."""

    id, name, _dtype = 2, "float16", torch.float16


class Blocks(Codec):
    """The largest magnitude of each block of :data:`BLOCK` as float32, then a code for each value's share of it.

    What travels as the scale is that magnitude rather than the step between two levels: it is one of the values, so
    that neither does it underflow nor a multiple of it overflow, and coding again what was decoded changes nothing.
    """

    def size(self, count: int, dtype: torch.dtype) -> int:
        """Scales, then codes."""
        return 4 * -(-count // BLOCK) + self.code_bytes(count)

    def encode(self, values: torch.Tensor) -> bytes:
        """The levels nearest to the values."""
        count = len(values)
        padded = torch.nn.functional.pad(_cast(values, torch.float32), (0, -count % BLOCK))
        blocks = padded.view(-(-count // BLOCK), BLOCK)
        scales = blocks.abs().amax(1)
        shares = blocks / torch.where(scales > 0, scales, 1.0)[:, None]
        return as_bytes(scales) + self.encode_shares(shares.view(-1)[:count])

    def decode(self, raw: torch.Tensor, count: int, dtype: torch.dtype) -> torch.Tensor:
        """Refuses scales that are no magnitude, and codes without a level."""
        scales, codes = raw.tensor_split((4 * -(-count // BLOCK),))
        scales = scales.view(torch.float32)
        if not (torch.isfinite(scales) & (scales >= 0)).all():
            raise ValueError("a scale is negative, NaN or infinite")
        return _cast(self.decode_shares(codes, count) * scales.repeat_interleave(BLOCK)[:count], dtype)

    @abstractmethod
    def code_bytes(self, count: int) -> int:
        """Bytes of ``count`` codes."""

    @abstractmethod
    def encode_shares(self, shares: torch.Tensor) -> bytes:
        """Codes of ``shares``, float32 in [-1, 1]."""

    @abstractmethod
    def decode_shares(self, codes: torch.Tensor, count: int) -> torch.Tensor:
        """The levels, float32 in [-1, 1]."""


class Int8(Blocks):
    """Levels k / 127 for k = -127..127, a byte each: off by at most 1/254 of the block's largest magnitude."""

    id, name = 3, "int8"

    def code_bytes(self, count: int) -> int:
        """One each."""
        return count

    def encode_shares(self, shares: torch.Tensor) -> bytes:
        """Round to nearest, ties to even."""
        return as_bytes((shares * 127).round().to(torch.int8))

    def decode_shares(self, codes: torch.Tensor, count: int) -> torch.Tensor:
        """Refuses -128."""
        numbers = codes.view(torch.int8)
        if (numbers == -128).any():
            raise ValueError("a code is -128")
        return numbers.float() / 127


def normal_float_levels() -> torch.Tensor:
    """The 16 levels of the 4-bit NormalFloat, float32, ascending from -1 to 1.

    Quantiles of the normal distribution at equal steps of probability on either side of 0, 8 above it and 7 below,
    and 0 itself, divided by the largest. The outermost leave out the mean of 1/32 and 1/30 of the probability
    (QLoRA, Dettmers et al., 2023, section 3 and appendix E).
    """
    half = 0.5 - (1 / 32 + 1 / 30) / 2
    quantile = NormalDist().inv_cdf
    below = [quantile(0.5 - half * i / 7) for i in range(7, 0, -1)]
    above = [quantile(0.5 + half * i / 8) for i in range(1, 9)]
    return torch.tensor([*below, 0.0, *above], dtype=torch.float64).div(above[-1]).float()


class NormalFloat(Blocks):
    """Levels of :func:`normal_float_levels`, two to a byte, the first in its low half.

    Off by at most half the widest gap: 0.152 of the block's largest magnitude.
    """

    id, name = 4, "nf4"

    def __init__(self) -> None:
        levels = normal_float_levels()
        self._middles = (levels[1:] + levels[:-1]) / 2
        self._pairs = torch.stack((levels.repeat(16), levels.repeat_interleave(16)), 1)

    def code_bytes(self, count: int) -> int:
        """Half a byte each; the last may be left over."""
        return -(-count // 2)

    def encode_shares(self, shares: torch.Tensor) -> bytes:
        """The nearest level's number; a half left over is 0."""
        codes = torch.bucketize(shares, self._middles, out_int32=True).to(torch.uint8)
        codes = torch.nn.functional.pad(codes, (0, len(codes) % 2)).view(-1, 2)
        return as_bytes(codes[:, 0] | codes[:, 1] << 4)

    def decode_shares(self, codes: torch.Tensor, count: int) -> torch.Tensor:
        """Refuses a code in a half left over."""
        if count % 2 and codes[-1] >> 4:
            raise ValueError("a code too many")
        return self._pairs.index_select(0, codes.int()).view(-1)[:count]
