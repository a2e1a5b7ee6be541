"""What a file of features holds, as named tensors."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from fedumm.backends.feature_table import Block

_FIELDS = {
    "features": "features",
    "lengths": "lengths",
    "beside": "all_beside",
    "beside_lengths": "beside_lengths",
    "scales": "scales",
}
"""Name in the file: field of :class:`Block`."""

_RAGGED = {"features", "lengths", "beside", "beside_lengths"}


@dataclass(frozen=True)
class Layout:
    """How the features of one stage lie in a file.

    Attributes:
        shape: of one image's features; of those that differ in length, without the first dimension.
        dtype: in which they are kept.
        one_by_one: they differ in length.
        scaled: they are multiples of scales.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    one_by_one: bool = False
    scaled: bool = False

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor]) -> Layout:
        """That of a file which holds ``tensors``, if it is sound."""
        features = tensors.get("features", torch.zeros(0))
        return cls(tuple(features.shape[1:]), features.dtype, "lengths" in tensors, "scales" in tensors)

    def block(self, tensors: Mapping[str, torch.Tensor], images: int) -> Block | None:
        """The block that ``tensors`` are; None if they are not the features of so many images."""
        expected = (_RAGGED if self.one_by_one else {"features"}) | ({"scales"} if self.scaled else set())
        if tensors.keys() != expected or not self._fit(tensors, images):
            return None
        return Block(**{_FIELDS[name]: tensor for name, tensor in tensors.items()})

    def _fit(self, tensors: Mapping[str, torch.Tensor], images: int) -> bool:
        if self.scaled and not _is(tensors["scales"], (images, self.scales), torch.float32):
            return False
        if not self.one_by_one:
            return _is(tensors["features"], (images, *self.shape), self.dtype)
        return all(
            _is(values, (len(values), *shape), dtype) and _add_up(lengths, images, len(values))
            for values, shape, dtype, lengths in (
                (tensors["features"], self.shape, self.dtype, tensors["lengths"]),
                (tensors["beside"], (), torch.int64, tensors["beside_lengths"]),
            )
        )

    @property
    def scales(self) -> int:
        """How many an image has."""
        return self.shape[-1] if self.one_by_one or len(self.shape) > 1 else 1


def tensors_of(block: Block) -> dict[str, torch.Tensor]:
    """Those of ``block``, by their names in a file."""
    given = {name: getattr(block, field) for name, field in _FIELDS.items()}
    return {name: tensor for name, tensor in given.items() if tensor is not None}


def checksum(block: Block, position: int) -> str:
    """CRC-32 of all that is kept of one image, and of how much each part is; in hexadecimal."""
    crc = 0
    for part in block.parts(position):
        crc = zlib.crc32(struct.pack("<q", len(part)), crc)
        crc = zlib.crc32(part.contiguous().view(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"


def _is(tensor: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    return (tuple(tensor.shape), tensor.dtype) == (shape, dtype)


def _add_up(lengths: torch.Tensor, images: int, total: int) -> bool:
    return (
        _is(lengths, (images,), torch.int64)
        and all(0 <= length <= total for length in lengths.tolist())
        and int(lengths.sum()) == total
    )
