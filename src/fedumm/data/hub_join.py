"""Data sets on the Hub whose questions and images are two configurations, as in ``lmms-lab/GQA``.

``--dataset lmms-lab/GQA:train_balanced`` reads ``train_balanced_instructions`` and ``train_balanced_images``, one
split; ``--dataset lmms-lab/GQA:balanced`` trains on these and evaluates on ``val_balanced_...`` (else
``testdev_balanced_...``). Each image is written once, as a file in
``CACHE/fedumm/OWNER--NAME@..._images-files-COMMIT``, and the questions name it: a join of the two tables would hold it
once for each question.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from fedumm.data.configurations import configurations
from fedumm.data.hub import Pick, data_card, file_name, hub_places, kept_in, read_split, split_builder, with_content
from fedumm.data.hub_access import check_reachable, explain_hub_error
from fedumm.data.request import DataRequest, DataSplits
from fedumm.data.splits import TRAIN, VALIDATION, pick_split
from fedumm.errors import FedummError
from fedumm.texts import one_line

QUESTIONS, IMAGES = "_instructions", "_images"
_PREFIXES = {TRAIN: ("train",), VALIDATION: ("val", "validation", "testdev", "test")}
_KEYS = ("imageId", "image_id", "img_id", "id")
"""Columns that name a question's image; an image's own is the last of them that it has."""


def joined_configurations(repo_id: str, configuration: str, cache_dir: str) -> dict[str, str]:
    """What to join for each split: ``train_balanced`` for the configurations that begin so. Empty: nothing to join.

    Raises:
        FedummError: the Hub says that there is no such data set, or that it may not be read.
    """
    there = _there(repo_id, cache_dir)
    if there(configuration):
        return {}
    if there(configuration + QUESTIONS):
        return {TRAIN: configuration}
    names = {split: [f"{p}_{configuration}" for p in prefixes] for split, prefixes in _PREFIXES.items()}
    found = {split: next((n for n in some if there(n + QUESTIONS)), "") for split, some in names.items()}
    return {split: name for split, name in found.items() if name} if found[TRAIN] else {}


def _there(repo_id: str, cache_dir: str) -> Callable[[str], bool]:
    """Whether the data set has a configuration; without a connection, whether it was read before."""
    if commit := check_reachable("dataset", repo_id):
        return set(configurations(data_card(repo_id, commit))).__contains__
    cache = kept_in(cache_dir)
    return lambda name: any(cache.glob(f"{file_name(f'{repo_id}:{name}')}-*-*"))


def load_joined(repo_id: str, names: Mapping[str, str], request: DataRequest) -> DataSplits:
    """Questions with the files of their images; ``names`` is what :func:`joined_configurations` found.

    Raises:
        FedummError: they can't be had, or a question's image is not among the images.
    """
    limits = {TRAIN: request.max_train_samples, VALIDATION: request.max_eval_samples}
    rows = {split: _joined(f"{repo_id}:{name}", limits[split], request) for split, name in names.items()}
    return DataSplits(rows[TRAIN], rows.get(VALIDATION))


def _joined(dataset: str, limit: int, request: DataRequest) -> Any:
    rows = read_split(dataset + QUESTIONS, _the_split(dataset + QUESTIONS), limit, request)
    key = next((name for name in _KEYS if name in rows.column_names), None)
    if key is None:
        raise FedummError(f"--dataset {dataset}{QUESTIONS} has none of the columns {', '.join(_KEYS)}.")
    idents = [str(ident) for ident in rows[key][:]]
    folder = _unpacked(dataset + IMAGES, set(idents), request)
    return rows.add_column("image", [str(folder / ident) for ident in idents])


def _the_split(dataset: str) -> Pick:
    def among(there: Sequence[str]) -> str | None:
        return there[0] if len(there) == 1 else pick_split(there, [TRAIN], dataset)

    return Pick(("only",), among)


def _unpacked(dataset: str, wanted: Collection[str], request: DataRequest) -> Path:
    """The folder with a file for each image of ``wanted``; reads as many images as it takes."""
    repo_id = dataset.partition(":")[0]
    commit = check_reachable("dataset", repo_id)
    cache, name = kept_in(request.cache_dir), f"{file_name(dataset)}-files"
    kept = sorted(cache.glob(f"{name}-*"), key=os.path.getmtime)
    if not commit and not kept:
        raise explain_hub_error("dataset", repo_id, FileNotFoundError(repo_id), request.cache_dir)
    folder = cache / f"{name}-{commit[:12]}" if commit else kept[-1]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f".{name}.lock"):
        missing = set(wanted) - set(os.listdir(folder))
        if missing and commit:
            _unpack(dataset, missing, folder, request, commit)
    if missing:
        raise FedummError(
            f"--dataset {dataset}: {len(missing):,} images that questions name are not there, such as "
            f"'{one_line(min(missing), 60)}'{'' if commit else ', and the Hub is out of reach'}."
        )
    return folder


def _unpack(dataset: str, missing: set[str], folder: Path, request: DataRequest, commit: str) -> None:
    """Write images, and take them out of ``missing``; ends when there is none left."""
    builder, split = split_builder(dataset, _the_split(dataset), request, commit)
    places = hub_places((builder.repo_id,), request)
    rows = builder.as_streaming_dataset(split=split).decode(False)
    for row in rows:
        ident = str(next(row[name] for name in reversed(_KEYS) if name in row))
        if ident not in missing or not re.fullmatch(r"\w[\w.-]*", ident):
            continue
        image = with_content(row["image"], places, f"--dataset {dataset}: the column image")
        if image:
            draft = folder / f".{ident}"
            draft.write_bytes(image["bytes"])
            draft.rename(folder / ident)
            missing.discard(ident)
        if not missing:
            return
