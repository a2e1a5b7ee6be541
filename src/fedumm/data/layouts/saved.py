"""What ``save_to_disk`` of ``datasets`` wrote.

::

    dataset_dict.json  train/  validation/     a DatasetDict
    state.json  dataset_info.json  *.arrow     a single Dataset: one split
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fedumm.data.layouts.places import check_inside
from fedumm.data.request import DataRequest
from fedumm.data.splits import TRAIN


def recognise(path: Path) -> bool:
    """Whether ``save_to_disk`` wrote the folder."""
    return any((path / name).is_file() for name in ("dataset_dict.json", "dataset_info.json", "state.json"))


def load(path: Path, request: DataRequest) -> Mapping[str, Callable[[], Any]]:
    """The splits: they are mapped, not read."""
    from datasets import DatasetDict, load_from_disk

    # Rows that were prepared for a run, and then saved, have a column of the kind that this makes known.
    import fedumm.data.picture_feature  # noqa: F401

    found = load_from_disk(str(path))
    parts = dict(found) if isinstance(found, DatasetDict) else {TRAIN: found}
    files = [file["filename"] for part in parts.values() for file in part.cache_files]
    check_inside(files, path, request)
    return {split: partial(parts.get, split) for split in parts}
