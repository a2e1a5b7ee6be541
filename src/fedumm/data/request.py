"""What a run wants of a data source, and what a source gives."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedumm.data.places import Places
from fedumm.errors import FedummError
from fedumm.tasks import VQA


@dataclass(frozen=True, kw_only=True)
class DataRequest:
    """What a run wants of a source.

    Attributes:
        cache_dir: Hugging Face cache directory; empty: the libraries' default.
        train_split, eval_split: splits to use where a data set leaves a choice.
        max_train_samples, max_eval_samples: keep the first so many rows; -1: all.
        columns: columns the backend reads; :mod:`fedumm.data.columns` derives some of them.
        column_names: what the data set calls a column, by our name for it.
        mix: the tasks, each with its part of a limited number of rows.
        image_roots: folders that files of the data may lie in, besides the data's own.
        remote_images: whether files of the data may be fetched from the network.
    """

    cache_dir: str = ""
    train_split: str = "train"
    eval_split: str = "validation"
    max_train_samples: int = -1
    max_eval_samples: int = -1
    columns: tuple[str, ...] = ()
    column_names: Mapping[str, str] = field(default_factory=dict)
    mix: Mapping[str, int] = field(default_factory=lambda: {VQA.name: 1})
    image_roots: tuple[str, ...] = ()
    remote_images: bool = False

    def places(self, base: Path | None = None, caches: tuple[Path, ...] = (), own: tuple[str, ...] = ()) -> Places:
        """Where files of the data may lie, given the data set's own folder, caches and addresses.

        Raises:
            FedummError: a folder of ``image_roots`` is not there.
        """
        roots = tuple(Path(os.path.expanduser(root)) for root in self.image_roots)
        for root in roots:
            if not root.is_dir():
                raise FedummError(f"--image_root {root}: no such folder.")
        return Places(base, roots, caches, own, self.remote_images)


@dataclass(frozen=True)
class DataSplits:
    """Rows to train on and rows to evaluate on, as ``datasets.Dataset``; no row is in both.

    Attributes:
        eval: None in raw rows of one split alone.
        columns: which column of the data set became which, where names differ: ours to theirs.
    """

    train: Any
    eval: Any
    columns: Mapping[str, str] = field(default_factory=dict)


Source = Callable[[DataRequest], DataSplits]
"""Loads a data set's raw rows; :func:`fedumm.data.source.load_data` then brings columns and row counts into shape."""
