"""Features of distinct images, and which of them each row of a data set shows."""

from __future__ import annotations

from collections.abc import Sequence
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


class Block:
    """Features of some images in one tensor, in memory or mapped from a file.

    Args:
        features: ``(images, ...)``; with ``lengths``, those of all images one after the other,
            ``(sum(lengths), width)``.
        lengths: int64, ``(images,)``: how many of the first dimension are each image's.
        beside: int64: the whole numbers that go with the features, one image's after the other's.
        beside_lengths: int64, ``(images,)``: how many of them are each image's.
    """

    def __init__(
        self,
        features: torch.Tensor,
        lengths: torch.Tensor | None = None,
        beside: torch.Tensor | None = None,
        beside_lengths: torch.Tensor | None = None,
    ) -> None:
        self.features, self.lengths = features, lengths
        self.all_beside, self.beside_lengths = beside, beside_lengths
        self._bounds = _bounds(lengths)
        self._beside_bounds = _bounds(beside_lengths)

    @classmethod
    def of_images(cls, features: Sequence[torch.Tensor], beside: Sequence[torch.Tensor]) -> Block:
        """Of one tensor ``(n, width)`` and one ``(m,)`` an image."""
        lengths, others = (torch.tensor([len(tensor) for tensor in own]) for own in (features, beside))
        return cls(torch.cat(list(features)), lengths, torch.cat(list(beside)), others)

    def of(self, position: int) -> torch.Tensor:
        """The features of one image, as a view."""
        if not self._bounds:
            return self.features[position]
        return self.features[self._bounds[position] : self._bounds[position + 1]]

    def beside(self, position: int) -> torch.Tensor:
        """The whole numbers that go with them, as a view."""
        if self.all_beside is None:
            return _NONE
        return self.all_beside[self._beside_bounds[position] : self._beside_bounds[position + 1]]

    def image_bytes(self, position: int) -> int:
        """Of one image's features, and of the numbers that go with them."""
        return self.of(position).nbytes + self.beside(position).nbytes


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
