"""Training one client's data on a backbone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from fedumm.backends.protocol import HasFrozenStages, MergesBatches, Progress
from fedumm.config import RunConfig
from fedumm.features import cache
from fedumm.features.cache import CacheOptions, default_folder, is_named
from fedumm.features.report import CacheReport
from fedumm.seeds import derive
from fedumm.training.backbone import Backbone
from fedumm.training.batching import Batch, epoch_steps, tasks_of
from fedumm.training.gradient_correction import GradientHook
from fedumm.training.results import TrainResult
from fedumm.training.workers import WorkerLoader

TrainProgress = Callable[[int, int, float], None]
"""Called after each optimiser step with samples done, samples in all, and the mean loss so far."""


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
        pin_memory=backbone.device.type == "cuda",
    )


def merges_batches(backbone: Backbone, config: RunConfig) -> bool:
    """Whether the batches of one optimiser step may be run as one.

    The gradient is the same to rounding, since the loss is a mean over samples; on a CPU, where
    memory is not what limits the batch, it is several times faster.
    """
    if not (isinstance(backbone.backend, MergesBatches) and backbone.backend.loss_is_sample_mean):
        return False
    return config.merge_batches == "on" or (config.merge_batches == "auto" and backbone.device.type == "cpu")


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
    start, model, count = time.monotonic(), backbone.model, len(dataset)
    optimizer = optimizer_for(backbone, config)
    # Training that failed halfway, for another client, may have left gradients behind.
    optimizer.zero_grad(set_to_none=True)
    merge = merges_batches(backbone, config)
    total = dict.fromkeys(sorted({*tasks_of(dataset, config)}), 0.0)
    drawn, steps = dict.fromkeys(total, 0), 0
    for epoch in range(epochs):
        torch.manual_seed(derive(seed, "dropout", epoch))
        model.train()
        epoch_loss = 0.0
        plan = epoch_steps(dataset, config, merge, derive(seed, "order", epoch))
        loaded = iter(loader(backbone, dataset, chain.from_iterable(plan), config))
        done = 0
        for batches in plan:
            for batch, loss in zip(batches, _step(backbone, optimizer, loaded, batches, hooks), strict=True):
                drawn[batch.task] += len(batch.rows)
                total[batch.task] += loss * len(batch.rows)
                epoch_loss += loss * len(batch.rows)
                done += len(batch.rows)
            steps += 1
            if progress:
                progress(epoch * count + done, epochs * count, sum(total.values()) / sum(drawn.values()))
        model.eval()
        if after_epoch:
            after_epoch(epoch + 1, epoch_loss / count)
    return TrainResult(
        loss=sum(total.values()) / sum(drawn.values()),
        losses={task: total[task] / drawn[task] for task in total if drawn[task]},
        samples=count,
        steps=steps,
        seconds=time.monotonic() - start,
        adapter=backbone.trained(optimizer),
    )


def _step(
    backbone: Backbone, optimizer: torch.optim.Optimizer, loaded: Iterator[Any], batches: Sequence[Batch],
    hooks: Sequence[GradientHook],
) -> list[float]:  # fmt: skip
    """One optimiser step over ``batches``; returns their mean losses.

    A batch weighs as its share of the step's samples: a short last batch counts for what it holds.
    """
    size, losses = sum(len(batch.rows) for batch in batches), []
    for batch in batches:
        loss = backbone.train_step(next(loaded))
        (loss * (len(batch.rows) / size)).backward()
        losses.append(loss.detach())
    for hook in hooks:
        hook()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return torch.stack(losses).tolist()


def cache_features(
    backbone: Backbone, datasets: Sequence[Any], config: RunConfig, progress: Progress
) -> list[CacheReport]:
    """Compute the frozen stages' outputs ahead where backend and options allow."""
    if config.feature_cache == "off" or not isinstance(backbone.backend, HasFrozenStages):
        return []
    reports: list[CacheReport] = []
    for stage in backbone.backend.frozen_stages(backbone.model, backbone.processor):
        parts = [part for dataset in datasets if (part := dataset.part(stage.name)) is not None]
        used = sum(report.bytes for report in reports if report.kept == "memory")
        options = CacheOptions(
            mode=config.feature_cache,
            memory_bytes=int(config.feature_cache_gb * 1e9) - used,
            folder=Path(os.path.expanduser(config.feature_cache_dir)) if config.feature_cache_dir else default_folder(),
            dtype=getattr(torch, config.feature_dtype),
            named=is_named(config.feature_cache_dir),
        )
        reports.append(cache.cache_features(stage, parts, options, backbone.device, progress))
    return reports
