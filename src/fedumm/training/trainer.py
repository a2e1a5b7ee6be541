"""Training one client's data on a backbone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from fedumm.backends.protocol import HasFrozenStages, Progress
from fedumm.config import RunConfig
from fedumm.features import cache
from fedumm.features.cache import CacheOptions, default_folder, is_named
from fedumm.features.report import CacheReport
from fedumm.seeds import derive
from fedumm.training.backbone import Backbone
from fedumm.training.batching import Batch, epoch_steps, tasks_of
from fedumm.training.device import gpu_bytes, pins
from fedumm.training.gradient_correction import GradientHook
from fedumm.training.results import TrainResult
from fedumm.training.steps import Steps, sample_mean
from fedumm.training.workers import WorkerLoader

TrainProgress = Callable[[int, int, float], None]
"""Called after each optimiser step with samples done, samples in all, and the mean loss so far."""

GPU_BYTES = 20_000_000_000
"""A card of 24 GB takes one ordinary merged batch, one of 80 GB four times as many samples. What does not fit is halved
(:class:`Steps`)."""


def is_cached(backbone: Backbone, dataset: Any) -> bool:
    """Whether images come as features; a Hugging Face data set has features too, of another kind."""
    return isinstance(backbone.backend, HasFrozenStages) and bool(dataset.cached)


def loader(backbone: Backbone, dataset: Any, batches: Iterable[Batch], config: RunConfig) -> DataLoader[Any]:
    """``batches`` of ``dataset``, collated, in order."""
    workers = 0 if is_cached(backbone, dataset) else config.num_workers
    make = WorkerLoader if workers else DataLoader
    return make(
        dataset,
        batch_sampler=[batch.rows for batch in batches],
        collate_fn=backbone.backend.collate_fn,
        num_workers=workers,
        pin_memory=pins(backbone.device),
    )


def merging(backbone: Backbone, config: RunConfig) -> int:
    """How many ordinary merged batches (see :func:`epoch_steps`) the batches of one optimiser step may make; 0: none.

    The gradient is the same to rounding, since the loss is a mean over samples, and few large batches are several
    times faster than many small ones: on a GPU, too, whose launches take longer than a small batch. With ``auto`` a GPU
    takes one for each :data:`GPU_BYTES` of its memory.
    """
    if config.merge_batches == "off" or not sample_mean(backbone):
        return 0
    return max(1, gpu_bytes(backbone.device) // GPU_BYTES) if config.merge_batches == "auto" else 1


def optimizer_for(backbone: Backbone, config: RunConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, 2019) on the adapter."""
    weights = [p for p in backbone.model.parameters() if p.requires_grad]
    return torch.optim.AdamW(weights, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def train_epochs(
    backbone: Backbone,
    dataset: Any,
    config: RunConfig,
    epochs: int,
    seed: int,
    progress: TrainProgress | None = None,
    after_epoch: Callable[[int, float], None] | None = None,
    hooks: Sequence[GradientHook] = (),
) -> TrainResult:
    """Train the backbone's adapter in place.

    Everything random (order, dropout) follows from ``seed`` alone, and the optimiser starts
    afresh, so the result does not depend on what the backbone did before.

    Args:
        after_epoch: called with the epoch (1, 2, ...) and its mean loss.
        hooks: called before each optimiser step, in this order.
    """
    start, count, steps = time.monotonic(), len(dataset), 0
    optimizer = optimizer_for(backbone, config)
    # Training that failed halfway, for another client, may have left gradients behind.
    optimizer.zero_grad(set_to_none=True)
    losses = _MeanLosses(tasks_of(dataset, config))
    merge = merging(backbone, config)
    work = Steps(backbone, optimizer, config, lambda batches: loader(backbone, dataset, batches, config), hooks)
    for epoch in range(epochs):
        torch.manual_seed(derive(seed, "dropout", epoch))
        plan = epoch_steps(dataset, config, merge, derive(seed, "order", epoch))
        backbone.model.train()
        losses.begin_epoch()
        for batches, found in work.epoch(plan):
            losses.add(batches, found)
            steps += 1
            if progress:
                progress(epoch * count + losses.epoch_samples, epochs * count, losses.mean)
        backbone.model.eval()
        if after_epoch:
            after_epoch(epoch + 1, losses.epoch_mean)
    return TrainResult(
        loss=losses.mean,
        losses=losses.by_task,
        samples=count,
        steps=steps,
        seconds=time.monotonic() - start,
        adapter=backbone.trained(optimizer),
    )


class _MeanLosses:
    """Mean training losses by sample: of each task, of all tasks, and of the current epoch."""

    def __init__(self, tasks: Iterable[str]) -> None:
        self._totals = dict.fromkeys(sorted({*tasks}), 0.0)
        self._samples = dict.fromkeys(self._totals, 0)
        self.begin_epoch()

    def begin_epoch(self) -> None:
        self._epoch_total, self.epoch_samples = 0.0, 0

    def add(self, batches: Sequence[Batch], losses: Sequence[float]) -> None:
        """Count the mean loss of each batch."""
        for batch, loss in zip(batches, losses, strict=True):
            size = len(batch.rows)
            self._samples[batch.task] += size
            self._totals[batch.task] += loss * size
            self._epoch_total += loss * size
            self.epoch_samples += size

    @property
    def mean(self) -> float:
        return sum(self._totals.values()) / sum(self._samples.values())

    @property
    def epoch_mean(self) -> float:
        return self._epoch_total / self.epoch_samples

    @property
    def by_task(self) -> dict[str, float]:
        """Of the tasks that had samples."""
        return {task: total / self._samples[task] for task, total in self._totals.items() if self._samples[task]}


def cache_features(
    backbone: Backbone, datasets: Sequence[Any], config: RunConfig, progress: Progress, splits: Sequence[str] = ()
) -> list[CacheReport]:
    """Compute the frozen stages' outputs ahead where backend and options allow.

    Args:
        splits: what each of ``datasets`` is called in messages.
    """
    if config.feature_cache == "off" or not isinstance(backbone.backend, HasFrozenStages):
        return []
    reports: list[CacheReport] = []
    for stage in backbone.backend.frozen_stages(backbone.model, backbone.processor):
        named = zip(datasets, splits or [""] * len(datasets), strict=True)
        parts = [(part, split) for dataset, split in named if (part := dataset.part(stage.name)) is not None]
        used = sum(report.bytes for report in reports if report.kept == "memory")
        options = CacheOptions(
            mode=config.feature_cache,
            memory_bytes=int(config.feature_cache_gb * 1e9) - used,
            folder=Path(os.path.expanduser(config.feature_cache_dir)) if config.feature_cache_dir else default_folder(),
            dtype=getattr(torch, config.feature_dtype),
            named=is_named(config.feature_cache_dir),
        )
        given, names = [part for part, _ in parts], [split for _, split in parts if split]
        reports.append(cache.cache_features(stage, given, options, backbone.device, progress, names))
    return reports
