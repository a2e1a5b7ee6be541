"""The frozen vision tower's output, computed once per distinct image and kept in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from fedumm.backends.blip_vqa.dataset import BlipVqaDataset
    from fedumm.backends.protocol import Progress

_BATCH = 64
_READ = 1000


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
    keys: list[str] = []
    stored = rows.select_columns("image").cast_column("image", Image(decode=False)).with_format("arrow")
    for table in stored.iter(_READ):
        for image in table["image"].to_pylist():
            if image is None:
                # Reading it will say which row has none.
                keys.append(f"none-{len(keys)}")
                continue
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
    first_seen: dict[str, tuple[int, int]] = {}
    for number, own in enumerate(keys):
        for row, key in enumerate(own):
            first_seen.setdefault(key, (number, row))
    if not first_seen:
        return 0
    table: torch.Tensor | None = None
    places = list(first_seen.values())
    for start in range(0, len(places), _BATCH):
        chosen = places[start : start + _BATCH]
        runs = [(number, [row for _, row in run]) for number, run in groupby(chosen, itemgetter(0))]
        pixels = torch.cat([datasets[number].pixels(rows) for number, rows in runs])
        # Always the same shape, so that rounding does not depend on which images a host has.
        full = torch.cat([pixels, pixels[-1:].expand(_BATCH - len(chosen), *pixels.shape[1:])])
        features = encode(full)[: len(chosen)]
        if table is None:
            size = features[0].numel() * features.element_size() * len(places)
            if size > budget_bytes:
                return 0
            table = features.new_empty((len(places), *features.shape[1:]))
        table[start : start + len(chosen)] = features
        progress("vision features", start + len(chosen), len(places))
    order = {key: place for place, key in enumerate(first_seen)}
    assert table is not None
    for dataset, own in zip(datasets, keys, strict=True):
        dataset.features = FeatureStore(table, [order[key] for key in own])
    return table.numel() * table.element_size()
