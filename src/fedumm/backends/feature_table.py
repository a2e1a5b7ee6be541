"""Features of distinct images, and which of them each row of a data set shows."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class FeatureTable:
    """Blocks of features, in memory or mapped from files.

    Args:
        blocks: tensors ``(images, ...)``, all of one dtype.
        places: block and position in it, for each row of the data set.
    """

    def __init__(self, blocks: Sequence[torch.Tensor], places: Sequence[tuple[int, int]]) -> None:
        self._blocks = blocks
        self._places = places

    def of(self, row: int) -> torch.Tensor:
        """The features of the image of ``row``, as a view."""
        block, position = self._places[row]
        return self._blocks[block][position]
