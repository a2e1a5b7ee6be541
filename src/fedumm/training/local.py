"""Training and evaluating one client's data on a backbone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from fedumm.backends.protocol import HasFrozenStage, MergesBatches, Progress, ScoresSamples
from fedumm.config import RunConfig
from fedumm.features import cache
from fedumm.features.cache import CacheOptions, default_folder
from fedumm.features.report import CacheReport
from fedumm.training.backbone import Backbone
from fedumm.training.results import Evaluation, TrainResult
from fedumm.training.seeds import derive

_MERGED_SAMPLES = 64
TrainProgress = Callable[[int, int, float], None]
"""Called after each optimiser step with samples done, samples in all, and the mean loss so far."""


def epoch_groups(count: int, config: RunConfig, merge: bool, seed: int) -> list[list[list[int]]]:
    """One epoch in random order: optimiser steps, each a list of batches, each a list of rows.

    A step takes ``batch_size * grad_accum`` rows, the last one what is left. Its rows are cut
    into batches of ``batch_size``, or, if ``merge``, of up to 64.
    """
    order: list[int] = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    step = config.batch_size * config.grad_accum
    batch = max(config.batch_size, min(step, _MERGED_SAMPLES)) if merge else config.batch_size
    groups = [order[i : i + step] for i in range(0, count, step)]
    return [[group[i : i + batch] for i in range(0, len(group), batch)] for group in groups]


def _has_features(backbone: Backbone, dataset: Any) -> bool:
    """A Hugging Face data set has ``features`` too, of another kind."""
    return isinstance(backbone.backend, HasFrozenStage) and getattr(dataset, "features", None) is not None


def _loader(backbone: Backbone, dataset: Any, batches: Sequence[list[int]], config: RunConfig) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=backbone.backend.collate_fn,
        num_workers=0 if _has_features(backbone, dataset) else config.num_workers,
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
) -> TrainResult:
    """Train the backbone's adapter in place.

    Everything random (order, dropout) follows from ``seed`` alone, and the optimiser starts
    afresh, so the result does not depend on what the backbone did before.

    Args:
        after_epoch: called with the epoch (1, 2, ...) and its mean loss.
    """
    start, model, count = time.monotonic(), backbone.model, len(dataset)
    optimizer = optimizer_for(backbone, config)
    # Training that failed halfway, for another client, may have left gradients behind.
    optimizer.zero_grad(set_to_none=True)
    merge = merges_batches(backbone, config)
    total, steps = 0.0, 0
    for epoch in range(epochs):
        torch.manual_seed(derive(seed, "dropout", epoch))
        model.train()
        epoch_loss = 0.0
        groups = epoch_groups(count, config, merge, derive(seed, "order", epoch))
        batches = iter(_loader(backbone, dataset, [batch for group in groups for batch in group], config))
        done = 0
        for group in groups:
            size = sum(map(len, group))
            epoch_loss += _step(backbone, optimizer, batches, [len(batch) / size for batch in group]) * size
            steps, done = steps + 1, done + size
            if progress:
                progress(epoch * count + done, epochs * count, (total + epoch_loss) / (epoch * count + done))
        total += epoch_loss
        model.eval()
        if after_epoch:
            after_epoch(epoch + 1, epoch_loss / count)
    return TrainResult(total / (epochs * count), count, steps, time.monotonic() - start)


def _step(
    backbone: Backbone, optimizer: torch.optim.Optimizer, batches: Iterator[Any], weights: Sequence[float]
) -> float:
    """One optimiser step over ``len(weights)`` batches; returns the weighted mean loss.

    A batch weighs as its share of the step's samples: a short last batch counts for what it holds.
    """
    losses = []
    for weight in weights:
        loss = backbone.train_step(next(batches)) * weight
        loss.backward()
        losses.append(loss.detach())
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(torch.stack(losses).sum())


def cache_features(backbone: Backbone, datasets: Sequence[Any], config: RunConfig, progress: Progress) -> CacheReport:
    """Compute the frozen stage's outputs ahead where backend and options allow."""
    if config.feature_cache == "off" or not isinstance(backbone.backend, HasFrozenStage):
        return CacheReport()
    options = CacheOptions(
        mode=config.feature_cache,
        memory_bytes=int(config.feature_cache_gb * 1e9),
        folder=Path(config.feature_cache_dir).expanduser() if config.feature_cache_dir else default_folder(),
        dtype=getattr(torch, config.feature_dtype),
    )
    stage = backbone.backend.frozen_stage(backbone.model, backbone.processor)
    return cache.cache_features(stage, datasets, options, backbone.device, progress)


def evaluate(backbone: Backbone, dataset: Any, config: RunConfig) -> Evaluation:
    """Score the backbone with its present adapter."""
    model, backend, count = backbone.model, backbone.backend, len(dataset)
    model.eval()
    size = config.eval_batch_size or config.batch_size * (32 if _has_features(backbone, dataset) else 8)
    # Questions of a length together: less padding to compute.
    order = sorted(range(count), key=dataset.lengths.__getitem__) if hasattr(dataset, "lengths") else range(count)
    batches = [list(order[i : i + size]) for i in range(0, count, size)]
    loader = _loader(backbone, dataset, batches, config)
    with backbone.autocast():
        if isinstance(backend, ScoresSamples):
            return _evaluation(backend.score_samples(model, loader, backbone.processor, backbone.device))
        return Evaluation(float(backend.evaluate(model, loader, backbone.processor, backbone.device)), count, {})


def _evaluation(samples: Sequence[tuple[float, str]]) -> Evaluation:
    by_name: dict[str, list[float]] = {}
    for score, name in samples:
        by_name.setdefault(name, []).append(score)
    parts = {name: (sum(own) / len(own), len(own)) for name, own in sorted(by_name.items()) if name}
    return Evaluation(sum(score for score, _ in samples) / len(samples), len(samples), parts)
