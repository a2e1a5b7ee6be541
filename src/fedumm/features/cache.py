"""Run a model's frozen stage once per distinct image, and keep what it says.

The result does not depend on where it is kept, on who computed it, or on which other images there
are: images go through the stage in batches of one fixed shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fedumm.backends.feature_table import FeatureTable
from fedumm.backends.protocol import FeatureDataset, FrozenStage, Progress
from fedumm.data.picture import BadImageError
from fedumm.errors import FedummError
from fedumm.features.encode import Encoder
from fedumm.features.images import DistinctImages
from fedumm.features.known_files import KnownFiles
from fedumm.features.on_disk import DiskCache, Kept, groups
from fedumm.features.options import CacheOptions
from fedumm.features.report import CacheReport
from fedumm.features.rights import Rights
from fedumm.features.weigh import NotWorthwhileError


def cache_features(
    stage: FrozenStage,
    datasets: Sequence[FeatureDataset],
    options: CacheOptions,
    device: torch.device,
    progress: Progress,
    splits: Sequence[str] = (),
    passes: Sequence[float] = (),
) -> CacheReport:
    """Compute the features of each distinct image of ``datasets`` and attach them to all of these.

    ``auto`` keeps them on disk where there is room and that saves time, else in memory if they fit the limit, else
    not at all (:class:`DiskCache`). Processes that call this at the same time with the same images share
    the work. Images are read only once it is known that there may be room for what becomes of them.

    Args:
        splits: what each of ``datasets`` is called in messages.
        passes: how often the run needs each row of each of ``datasets``; empty: not known, and nothing is weighed.

    Raises:
        FedummError: images can't be read; or, with ``memory`` or ``disk``, there is no room.
    """
    if options.mode == "off" or not any(len(dataset.rows) for dataset in datasets):
        return CacheReport(stage.name)
    files = _known_files(options)
    distinct = DistinctImages(datasets, progress, splits, files)
    encoder = Encoder(stage, options.dtype, device, distinct, progress, options.arithmetic)
    needed = sum(count * len(dataset.rows) for count, dataset in zip(passes, datasets, strict=bool(passes)))
    try:
        where, note, kept = _keep(encoder, options, needed)
    except BadImageError as error:
        raise distinct.fault(error) from error
    finally:
        if files is not None:
            files.save()
    if kept is None:
        return CacheReport(stage.name, note=note, remade=encoder.remade)
    for dataset, own in zip(datasets, distinct.keys, strict=True):
        dataset.features = FeatureTable(kept.blocks, [kept.places[key] for key in own])
    found = (kept.places[image.key] for image in distinct.all)
    size = sum(kept.blocks[block].image_bytes(place) for block, place in found)
    return CacheReport(stage.name, where, size, len(distinct.all), encoder.computed, note, encoder.remade)


def _keep(encoder: Encoder, options: CacheOptions, needed: float) -> tuple[str, str, Kept | None]:
    """Where features are now, why they are there or why not where they should be, and the features."""
    note = ""
    if options.mode in ("auto", "disk"):
        try:
            return "disk", *DiskCache(encoder, options).fill(needed)
        except NotWorthwhileError as error:
            note = str(error)
        except (OSError, NotImplementedError) as error:  # the latter of a file system without locks
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
    return "", "; ".join(filter(None, (note, short))), None


def _known_files(options: CacheOptions) -> KnownFiles | None:
    """Of a cache on disk; one in memory writes nothing, and so reads all images."""
    if options.mode not in ("auto", "disk") or options.folder.parts[:1] == ("~",):
        return None
    try:
        return KnownFiles(options.folder, Rights.of(options.folder, options.named))
    except OSError:
        return None


def _in_memory(encoder: Encoder) -> Kept:
    parts = list(groups(encoder.images))
    blocks = [encoder.encode(group) for group in parts]
    return Kept(blocks, {image.key: (i, j) for i, group in enumerate(parts) for j, image in enumerate(group)})
