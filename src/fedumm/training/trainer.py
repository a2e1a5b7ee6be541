"""Training one client's data on a backbone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Any

import torch

from fedumm.config import RunConfig
from fedumm.seeds import derive
from fedumm.training.backbone import Backbone
from fedumm.training.batching import Batch, epoch_steps, tasks_of
from fedumm.training.device import gpu_bytes
from fedumm.training.gradient_correction import GradientHook
from fedumm.training.loading import loader
from fedumm.training.results import TrainResult
from fedumm.training.schedule import WHOLE, Schedule
from fedumm.training.steps import Steps, sample_mean

TrainProgress = Callable[[int, int, float], None]
"""Called after each optimiser step with samples done, samples in all, and the mean loss so far."""

StepLoss = Callable[[float, int], None]
"""Called after each optimiser step with its mean loss, and over how many samples that is."""

GPU_BYTES = 20_000_000_000
"""A card of 24 GB takes one ordinary merged batch, one of 80 GB four times as many samples. What does not fit is halved
(:class:`Steps`)."""


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
    after_epoch: Callable[[int, float], bool | None] | None = None,
    hooks: Sequence[GradientHook] = (),
    span: tuple[float, float] = WHOLE,
    on_step: StepLoss | None = None,
    seconds: float = 0.0,
) -> TrainResult:
    """Train the backbone's adapter in place.

    Everything random (order, dropout) follows from ``seed`` alone, and the optimiser starts
    afresh, so the result does not depend on what the backbone did before.

    Args:
        after_epoch: called with the epoch (1, 2, ...) and its mean loss; True ends the training.
        hooks: called before each optimiser step, in this order.
        span: the part of the whole training that this is, for the learning rate's schedule.
        on_step: is told the loss of each optimiser step.
        seconds: the training ends with the first optimiser step that is over after so many, also within an epoch; 0: no
            limit. Until then nothing differs from a training without one.
    """
    start, count, steps = time.monotonic(), len(dataset), 0
    out_of_time = False
    optimizer = optimizer_for(backbone, config)
    # Training that failed halfway, for another client, may have left gradients behind.
    optimizer.zero_grad(set_to_none=True)
    losses = _MeanLosses(tasks_of(dataset, config))
    merge = merging(backbone, config)
    if config.plans_lr:
        in_all = epochs * -(-count // (config.batch_size * config.grad_accum))
        hooks = [*hooks, Schedule(optimizer, config, span, in_all)]
    work = Steps(backbone, optimizer, config, lambda batches: loader(backbone, dataset, batches, config), hooks)
    for epoch in range(epochs):
        torch.manual_seed(derive(seed, "dropout", epoch))
        plan = epoch_steps(dataset, config, merge, derive(seed, "order", epoch))
        backbone.model.train()
        losses.begin_epoch()
        with closing(work.epoch(plan)) as done:
            for batches, found in done:
                before, total = losses.epoch_samples, losses.epoch_total
                losses.add(batches, found)
                steps += 1
                if on_step:
                    samples = losses.epoch_samples - before
                    on_step((losses.epoch_total - total) / samples, samples)
                if progress:
                    progress(epoch * count + losses.epoch_samples, epochs * count, losses.mean)
                out_of_time = 0 < seconds <= time.monotonic() - start
                if out_of_time:
                    break
        backbone.model.eval()
        if (after_epoch and after_epoch(epoch + 1, losses.epoch_mean)) or out_of_time:
            break
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
        self.epoch_total, self.epoch_samples = 0.0, 0

    def add(self, batches: Sequence[Batch], losses: Sequence[float]) -> None:
        """Count the mean loss of each batch."""
        for batch, loss in zip(batches, losses, strict=True):
            size = len(batch.rows)
            self._samples[batch.task] += size
            self._totals[batch.task] += loss * size
            self.epoch_total += loss * size
            self.epoch_samples += size

    @property
    def mean(self) -> float:
        return sum(self._totals.values()) / sum(self._samples.values())

    @property
    def epoch_mean(self) -> float:
        return self.epoch_total / self.epoch_samples

    @property
    def by_task(self) -> dict[str, float]:
        """Of the tasks that had samples."""
        return {task: total / self._samples[task] for task, total in self._totals.items() if self._samples[task]}
