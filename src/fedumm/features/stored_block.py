"""Features in a file, looked at when they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch

from fedumm.backends.feature_table import FeatureBlock
from fedumm.features.store import DamagedError, StoredFile

Remake = Callable[[StoredFile], tuple[FeatureBlock, dict[int, int]]]
"""Encodes the images of a damaged file again: their features, and from positions in the file to those in them."""


class StoredBlock:
    """The features of one file, of which each image's are checked when they are asked for first.

    Starting a run so reads nothing but the files' heads. What turns out not to be what was written is made again
    there and then; nothing damaged is ever returned.

    Args:
        remake: makes the images of the run that the file holds again.
    """

    def __init__(self, file: StoredFile, remake: Remake) -> None:
        self._file, self._remake = file, remake
        self._checked = bytearray(len(file.sums))
        self._instead: tuple[FeatureBlock, dict[int, int]] | None = None
        self._lock = threading.Lock()

    def of(self, position: int) -> torch.Tensor:
        """See :class:`FeatureBlock`."""
        block, place = self._sound(position)
        return block.of(place)

    def beside(self, position: int) -> torch.Tensor:
        """See :class:`FeatureBlock`."""
        block, place = self._sound(position)
        return block.beside(place)

    def image_bytes(self, position: int) -> int:
        """What is kept of one image; nothing is read."""
        return self._file.block.image_bytes(position)

    def _sound(self, position: int) -> tuple[FeatureBlock, int]:
        """A block whose numbers for this image are right, and the place in it."""
        if self._instead is None and self._checked[position]:
            return self._file.block, position
        with self._lock:
            if self._instead is None:
                try:
                    self._file.check(position)
                    self._checked[position] = 1
                    return self._file.block, position
                except DamagedError:
                    self._instead = self._remake(self._file)
        block, places = self._instead
        return block, places[position]
