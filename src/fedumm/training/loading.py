"""Batches of a data set, in order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch.utils.data import DataLoader

from fedumm.backends.protocol import HasFrozenStages
from fedumm.config import RunConfig
from fedumm.training.backbone import Backbone
from fedumm.training.batching import Batch
from fedumm.training.device import pins
from fedumm.training.prefetch import PrefetchLoader
from fedumm.training.workers import WorkerLoader


def is_cached(backbone: Backbone, dataset: Any) -> bool:
    """Whether images come as features; a Hugging Face data set has features too, of another kind."""
    return isinstance(backbone.backend, HasFrozenStages) and bool(dataset.cached)


def loader(backbone: Backbone, dataset: Any, batches: Iterable[Batch], config: RunConfig) -> DataLoader[Any]:
    """``batches`` of ``dataset``, collated, in order."""
    options: dict[str, Any] = {
        "batch_sampler": [batch.rows for batch in batches],
        "collate_fn": backbone.backend.collate_fn,
    }
    if _reads_ahead(backbone, dataset):
        return PrefetchLoader(dataset, device=backbone.device, **options)
    workers = 0 if is_cached(backbone, dataset) else config.num_workers
    make = WorkerLoader if workers else DataLoader
    return make(dataset, num_workers=workers, pin_memory=pins(backbone.device), **options)


def _reads_ahead(backbone: Backbone, dataset: Any) -> bool:
    """Features are read and pinned while a GPU works; a CPU that reads can't compute meanwhile."""
    return backbone.device.type != "cpu" and is_cached(backbone, dataset)
