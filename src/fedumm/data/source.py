"""Where the rows of a run come from: a source by name, a local folder or a Hub id."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedumm.checkpoints import LONGEST_HUB_ID
from fedumm.data.places import Places
from fedumm.errors import FedummError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class DataRequest:
    """What a run wants of a source.

    Attributes:
        cache_dir: Hugging Face cache directory; empty: the libraries' default.
        train_split, eval_split: splits to use where a data set leaves a choice.
        max_train_samples, max_eval_samples: keep the first so many rows; -1: all.
        columns: columns the backend reads; :mod:`fedumm.data.columns` derives some of them.
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
    mix: Mapping[str, int] = field(default_factory=lambda: {"vqa": 1})
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
    """Rows to train on and rows to evaluate on, as ``datasets.Dataset``; no row is in both."""

    train: Any
    eval: Any


Source = Callable[[DataRequest], DataSplits]
"""Loads a data set's raw rows; :func:`load_data` then brings columns and row counts into shape."""

SHIPPED = {
    "easy_vqa": "fedumm.data.easy_vqa",
    "shapes": "fedumm.data.shapes.source",
    "vqav2": "fedumm.data.vqav2",
}
_registered: dict[str, Source] = {}


def register_source(name: str, source: Source) -> None:
    """Make ``source`` known as ``--dataset name``."""
    _registered[name] = source


def available_sources() -> list[str]:
    """Names that :func:`load_data` knows, sorted; folders and Hub ids come on top."""
    return sorted({*SHIPPED, *_registered})


def load_data(name: str, request: DataRequest) -> DataSplits:
    """Rows of the source, folder or Hub data set ``name``.

    Raises:
        FedummError: no such data set, it can't be reached, a column is missing, no row is left, or a row's image is a
            file that is not there or may not be read.
    """
    from fedumm.data.tasks import task_rows

    load, places = _source(name), _places(name, request)
    raw = load(request)
    splits = {}
    for kind, rows, limit in (
        ("training", raw.train, request.max_train_samples),
        ("evaluation", raw.eval, request.max_eval_samples),
    ):
        if not len(rows):
            raise FedummError(f"--dataset {name}: there are no {kind} rows.")
        splits[kind] = task_rows(rows, request.mix, request.columns, limit, places, name, kind)
    return DataSplits(splits["training"], splits["evaluation"])


def _source(name: str) -> Source:
    if name in _registered:
        return _registered[name]
    if name in SHIPPED:
        return importlib.import_module(SHIPPED[name]).load  # type: ignore[no-any-return]
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        from fedumm.data.folder import load_folder

        return lambda request: load_folder(Path(path), request)
    if name.startswith((".", "/", "~")) or name.count("/") != 1 or len(name) > LONGEST_HUB_ID:
        raise FedummError(
            f"--dataset {name}: not a folder, not a Hub id (owner/name), and not one of "
            f"{', '.join(available_sources())}.{did_you_mean(name, available_sources())}"
        )
    from fedumm.data.hub import load_hub

    return lambda request: load_hub(name, request)


def _places(name: str, request: DataRequest) -> Places:
    """Where the files that rows of ``name`` call their images may lie."""
    path = Path(os.path.expanduser(name))
    if name in _registered or name in SHIPPED.keys() - {"vqav2"}:
        return request.places()
    if name not in SHIPPED and os.path.isdir(path):
        from fedumm.data.folder import folder_places

        return folder_places(path, request)
    from fedumm.data import vqav2
    from fedumm.data.hub import hub_places

    return hub_places((vqav2.TRAIN, vqav2.EVAL) if name in SHIPPED else (name,), request)
