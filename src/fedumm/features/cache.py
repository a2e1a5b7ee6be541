"""Run a model's frozen stage once per distinct image, and keep what it says.

The result does not depend on where it is kept, on who computed it, or on which other images there
are: images go through the stage in batches of one fixed shape.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fedumm.backends.feature_table import Block, FeatureTable
from fedumm.backends.protocol import FeatureDataset, FrozenStage, Progress
from fedumm.data.picture import BadImageError
from fedumm.errors import FedummError
from fedumm.features.encode import Encoder, stage_key
from fedumm.features.images import DistinctImages, Image
from fedumm.features.report import CacheReport
from fedumm.features.rights import Rights
from fedumm.features.store import DamagedError, ShardStore, finite

SHARD = 64
"""Images in a file, at most."""

_WAIT = 0.05
_PATIENCE = 300.0
"""Seconds without a new file after which others' claims are passed over: their process may be stopped."""

_ATTEMPTS = 3
Blocks = list[Block]
Places = dict[str, tuple[int, int]]
"""Image key to block, and position in it."""


@dataclass(frozen=True)
class CacheOptions:
    """How features are kept.

    Attributes:
        mode: auto, memory, disk or off.
        memory_bytes: most that ``auto`` and ``memory`` may take in memory.
        folder: where files go.
        named: whether the user chose it; then its group may share it (:mod:`fedumm.features.rights`).
        dtype: ``torch.float32``, which is exact, or ``torch.float16``.
    """

    mode: str
    memory_bytes: int
    folder: Path
    dtype: torch.dtype = torch.float32
    named: bool = False


def default_folder() -> Path:
    """``FEDUMM_CACHE``, or ``fedumm`` in the user's cache directory; with ``~`` in it for a user without a home."""
    own = os.environ.get("FEDUMM_CACHE")
    if own:
        return Path(own)
    return Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")) / "fedumm"


def is_named(feature_cache_dir: str) -> bool:
    """Whether the user chose the folder of the cache."""
    return bool(feature_cache_dir or os.environ.get("FEDUMM_CACHE"))


def cache_features(
    stage: FrozenStage,
    datasets: Sequence[FeatureDataset],
    options: CacheOptions,
    device: torch.device,
    progress: Progress,
    splits: Sequence[str] = (),
) -> CacheReport:
    """Compute the features of each distinct image of ``datasets`` and attach them to all of these.

    ``auto`` keeps them on disk where at most half of what is free is taken, else in memory if they fit
    the limit, else not at all. Processes that call this at the same time with the same images share
    the work. Images are read only once it is known that there may be room for what becomes of them.

    Args:
        splits: what each of ``datasets`` is called in messages.

    Raises:
        FedummError: images can't be read; or, with ``memory`` or ``disk``, there is no room.
    """
    if options.mode == "off" or not any(len(dataset.rows) for dataset in datasets):
        return CacheReport(stage.name)
    distinct = DistinctImages(datasets, progress, splits)
    encoder = Encoder(stage, stage.dtype or options.dtype, device, distinct, progress)
    try:
        kept, note, (blocks, places) = _keep(encoder, options)
    except BadImageError as error:
        raise distinct.fault(error) from error
    if not kept:
        return CacheReport(stage.name, note=note, remade=encoder.remade)
    for dataset, own in zip(datasets, distinct.keys, strict=True):
        dataset.features = FeatureTable(blocks, [places[key] for key in own])
    size = sum(blocks[block].image_bytes(place) for block, place in (places[image.key] for image in distinct.all))
    return CacheReport(stage.name, kept, size, len(distinct.all), encoder.computed, note, encoder.remade)


def _keep(encoder: Encoder, options: CacheOptions) -> tuple[str, str, tuple[Blocks, Places]]:
    """Where features are now, why not where they should be, and the features."""
    note = ""
    if options.mode in ("auto", "disk"):
        try:
            return "disk", "", _on_disk(encoder, options)
        except OSError as error:
            note = f"{options.folder}: {error}"
            encoder.computed = encoder.done = 0
            if options.mode == "disk":
                raise FedummError(
                    f"The features can't be kept in {note}. "
                    "Choose another --feature_cache_dir, or --feature_cache memory or off."
                ) from error
    count, least = encoder.distinct.fewest, "at least "
    if encoder.image_bytes() * count <= options.memory_bytes:
        count, least = len(encoder.images), ""
    size = encoder.image_bytes() * count
    if size <= options.memory_bytes:
        return "memory", note, _in_memory(encoder)
    short = f"the features of {least}{count:,} images take {size / 1e9:.1f} GB, more than --feature_cache_gb"
    if options.mode == "memory":
        raise FedummError(f"{short} {options.memory_bytes / 1e9:g}. Raise it, or use --feature_cache disk or off.")
    return "", "; ".join(filter(None, (note, short))), ([], {})


def _in_memory(encoder: Encoder) -> tuple[Blocks, Places]:
    groups = list(_groups(encoder.images))
    blocks = [encoder.encode(group) for group in groups]
    return blocks, {image.key: (i, j) for i, group in enumerate(groups) for j, image in enumerate(group)}


def _groups(images: Sequence[Image]) -> Iterator[Sequence[Image]]:
    for start in range(0, len(images), SHARD):
        yield images[start : start + SHARD]


def _on_disk(encoder: Encoder, options: CacheOptions) -> tuple[Blocks, Places]:
    """Write what is missing, and map all.

    Raises:
        OSError: no room, or the folder can't be written to.
    """
    if options.folder.parts[:1] == ("~",):
        raise OSError("this user has no home folder")
    key = stage_key(encoder.stage, encoder.dtype, encoder.device)
    rights = Rights.of(options.folder, options.named)
    store = ShardStore(options.folder / "features" / key, options.folder, rights)
    known = _known(encoder, store)
    _check_room(encoder, encoder.distinct.fewest - len(known), options)
    _check_room(encoder, sum(image.key not in known for image in encoder.images), options)
    for _ in range(_ATTEMPTS):
        _complete(encoder, store, known)
        known = _known(encoder, store)
        used = dict.fromkeys(known[image.key][0] for image in encoder.images if image.key in known)
        blocks = _mapped(store, list(used), encoder)
        if len(blocks) == len(used) and all(image.key in known for image in encoder.images):
            number = {path: i for i, path in enumerate(used)}
            return blocks, {key: (number[path], place) for key, (path, place) in known.items() if path in number}
        # The damaged files are gone by now, and their images missing again.
        known = _known(encoder, store)
    raise OSError("files are damaged again as soon as they are written")


def _known(encoder: Encoder, store: ShardStore) -> dict[str, tuple[Path, int]]:
    known = store.find()
    encoder.remade = store.removed
    return known


def _mapped(store: ShardStore, paths: Sequence[Path], encoder: Encoder) -> Blocks:
    blocks = []
    shape = (store.shape() or encoder.shape()) if paths else ()
    for count, path in enumerate(paths, start=1):
        try:
            blocks.append(store.open(path, shape, encoder.dtype, encoder.stage.one_by_one))
        except DamagedError:
            store.remove(path)
        encoder.progress("reading stored features", count, len(paths))
    return blocks


def _check_room(encoder: Encoder, missing: int, options: CacheOptions) -> None:
    if missing <= 0:
        return
    need = missing * encoder.image_bytes()
    there = next(p for p in (options.folder, *options.folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    if need > (free if options.mode == "disk" else free // 2):
        raise OSError(f"{need / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free")


def _complete(encoder: Encoder, store: ShardStore, known: Container[str]) -> None:
    """Write what is not yet ``known``, together with other processes that do the same."""
    missing = [[image for image in group if image.key not in known] for group in _groups(encoder.images)]
    pending = [group for group in missing if group]
    if pending:
        stage = encoder.stage
        facts = {"stage": stage.name, "settings": stage.settings, "dtype": str(encoder.dtype)}
        store.create({**facts, "shape": list(encoder.shape())})
    moved = time.monotonic()
    while pending:
        encoder.done = len(encoder.images) - sum(map(len, pending))
        waited = time.monotonic() - moved
        left = [group for group in pending if not _write(encoder, store, group, alone=waited > _PATIENCE)]
        if len(left) < len(pending):
            moved = time.monotonic()
        else:
            encoder.progress("waiting for other hosts' features", encoder.done, len(encoder.images))
            time.sleep(_WAIT)
        pending = left


def _write(encoder: Encoder, store: ShardStore, group: Sequence[Image], alone: bool) -> bool:
    """Whether the features of ``group`` are there now; not if another process is at them.

    ``alone``: that process has been at them for too long; at worst, work is done twice.
    """
    keys = [image.key for image in group]
    path = store.path_of(keys)
    if path.exists():
        return True
    with store.claim(path) as mine:
        if (mine or alone) and not path.exists():
            block = encoder.encode(group)
            if not finite(block.features):
                raise OSError(f"{encoder.stage.name}: numbers that are not finite in {encoder.dtype}")
            store.write(path, keys, block)
        return mine or alone
