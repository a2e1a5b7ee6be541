"""Features of distinct images, and which of them each row of a data set shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch

_NONE = torch.zeros(0, dtype=torch.int64)


class FeatureBlock(Protocol):
    """Features of some images."""

    def of(self, position: int) -> torch.Tensor:
        """Those of one image: ``(...)``, or ``(n, width)`` where n differs between images."""
        ...

    def beside(self, position: int) -> torch.Tensor:
        """The whole numbers that go with them: int64, ``(m,)``; of most stages there are none."""
        ...

    def image_bytes(self, position: int) -> int:
        """What both take where they are kept."""
        ...


@dataclass(frozen=True, eq=False)
class Block:
    """Features of some images in one tensor, in memory or mapped from a file.

    Attributes:
        features: ``(images, ...)``; with ``lengths``, those of all images one after the other,
            ``(sum(lengths), width)``.
        lengths: int64, ``(images,)``: how many of the first dimension are each image's.
        beside: int64: the whole numbers that go with the features, one image's after the other's.
        beside_lengths: int64, ``(images,)``: how many of them are each image's.
        scales: float32, ``(images, width)``, for int8 features: what each channel (the last dimension) of each image
            is multiplied by. See :meth:`of`.
    """

    features: torch.Tensor
    lengths: torch.Tensor | None = None
    all_beside: torch.Tensor | None = None
    beside_lengths: torch.Tensor | None = None
    scales: torch.Tensor | None = None

    @classmethod
    def of_images(cls, features: Sequence[torch.Tensor], beside: Sequence[torch.Tensor]) -> Block:
        """Of one tensor ``(n, width)`` and one ``(m,)`` an image."""
        lengths, others = (torch.tensor([len(tensor) for tensor in own]) for own in (features, beside))
        return cls(torch.cat(list(features)), lengths, torch.cat(list(beside)), others)

    def of(self, position: int) -> torch.Tensor:
        """The features of one image: as a view, or from int8 in float32."""
        own = self._stored(position)
        return own if self.scales is None else own * self.scales[position]

    def beside(self, position: int) -> torch.Tensor:
        """The whole numbers that go with them, as a view."""
        if self.all_beside is None:
            return _NONE
        return self.all_beside[self._beside_bounds[position] : self._beside_bounds[position + 1]]

    def parts(self, position: int) -> list[torch.Tensor]:
        """All that is kept of one image, as views."""
        scales = [] if self.scales is None else [self.scales[position]]
        return [self._stored(position), *scales, self.beside(position)]

    def image_bytes(self, position: int) -> int:
        """What is kept of one image."""
        return sum(part.nbytes for part in self.parts(position))

    def _stored(self, position: int) -> torch.Tensor:
        if self.lengths is None:
            return self.features[position]
        return self.features[self._bounds[position] : self._bounds[position + 1]]

    @cached_property
    def _bounds(self) -> list[int]:
        return _bounds(self.lengths)

    @cached_property
    def _beside_bounds(self) -> list[int]:
        return _bounds(self.beside_lengths)


def _bounds(lengths: torch.Tensor | None) -> list[int]:
    return [] if lengths is None else [0, *torch.cumsum(lengths, 0).tolist()]


class FeatureTable:
    """Blocks of features, and the place of each row's image in them.

    Args:
        blocks: of one stage.
        places: block and position in it, for each row of the data set.
    """

    def __init__(self, blocks: Sequence[FeatureBlock], places: Sequence[tuple[int, int]]) -> None:
        self._blocks = blocks
        self._places = places

    def of(self, row: int) -> torch.Tensor:
        """The features of the image of ``row``: ``(...)``, or ``(n, width)`` where images differ in length."""
        block, position = self._places[row]
        return self._blocks[block].of(position)

    def beside(self, row: int) -> torch.Tensor:
        """The whole numbers that go with the features of ``row``, exactly as the stage gave them: int64, ``(m,)``."""
        block, position = self._places[row]
        return self._blocks[block].beside(position)
