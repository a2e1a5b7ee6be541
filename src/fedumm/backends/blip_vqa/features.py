"""The frozen vision tower's output, computed once per distinct image and kept in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from fedumm.backends.blip_vqa.dataset import BlipVqaDataset
    from fedumm.backends.protocol import Progress

_BATCH = 64


class FeatureStore:
    """Features of one data set's rows: a table over distinct images, and each row's place in it."""

    def __init__(self, table: torch.Tensor, index: Sequence[int]) -> None:
        self.table = table
        self.index = index

    def of(self, row: int) -> torch.Tensor:
        """``(tokens, width)`` of the image of ``row``."""
        return self.table[self.index[row]]


def image_keys(rows: Any) -> list[str]:
    """A digest of each row's image file content; equal images have equal keys. Nothing is decoded."""
    from datasets import Image

    digests: dict[str, str] = {}
    keys = []
    for image in rows.select_columns("image").cast_column("image", Image(decode=False))["image"]:
        data, path = image["bytes"], image["path"]
        if data is not None:
            keys.append(hashlib.sha256(data).hexdigest())
            continue
        if path not in digests:
            digests[path] = _digest_file(path)
        keys.append(digests[path])
    return keys


def _digest_file(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        # Reading it as an image will say what is wrong, and in which row.
        return path


def attach_features(
    datasets: Sequence[BlipVqaDataset],
    encode: Callable[[torch.Tensor], torch.Tensor],
    budget_bytes: int,
    progress: Progress,
) -> int:
    """Compute each distinct image of ``datasets`` once and attach the result to all of them.

    Args:
        encode: ``(batch, 3, side, side)`` pixels -> ``(batch, tokens, width)`` features on the CPU.

    Returns:
        Bytes kept; 0, and nothing attached, if they would not fit ``budget_bytes``.
    """
    keys = [image_keys(dataset.rows) for dataset in datasets]
    first_seen = {
        key: (dataset, row)
        for dataset, own in reversed(list(zip(datasets, keys, strict=True)))
        for row, key in reversed(list(enumerate(own)))
    }
    order = {key: place for place, key in enumerate(sorted(first_seen))}
    if not order:
        return 0
    table: torch.Tensor | None = None
    places = list(order)
    for start in range(0, len(places), _BATCH):
        chosen = [first_seen[key] for key in places[start : start + _BATCH]]
        features = encode(torch.cat([dataset.pixels([row]) for dataset, row in chosen]))
        if table is None:
            size = features[0].numel() * features.element_size() * len(places)
            if size > budget_bytes:
                return 0
            table = features.new_empty((len(places), *features.shape[1:]))
        table[start : start + len(chosen)] = features
        progress("vision features", start + len(chosen), len(places))
    assert table is not None
    for dataset, own in zip(datasets, keys, strict=True):
        dataset.features = FeatureStore(table, [order[key] for key in own])
    return table.numel() * table.element_size()
