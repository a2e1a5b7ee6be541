"""The optimiser steps of an epoch, in batches that get smaller once memory has run out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from fedumm.backends.protocol import MergesBatches
from fedumm.config import RunConfig
from fedumm.errors import FedummError
from fedumm.training.backbone import Backbone
from fedumm.training.batching import Batch, cut
from fedumm.training.device import ends_when_full, free_bytes, keeps_within, random_state, set_random_state
from fedumm.training.fitting import half, halve
from fedumm.training.gradient_correction import GradientHook
from fedumm.training.workers import tensor_bytes

Load = Callable[[Iterable[Batch]], Iterable[Any]]
"""Batches, collated, in order."""


def sample_mean(backbone: Backbone) -> bool:
    """Whether the loss of a batch is a mean over its samples, so that batches may be merged and cut."""
    return isinstance(backbone.backend, MergesBatches) and backbone.backend.loss_is_sample_mean


def training_on(task: str) -> str:
    """What training on a task is called where its batches have a limit, and in messages."""
    return f"training ({task})"


class Steps:
    """Optimiser steps on a backbone.

    Where memory runs out, nothing of the step's gradient is kept: it is begun again in halves, and the limit stays.
    The gradient is the same to rounding, since each part weighs as its share of the samples. Random numbers are those
    that the step began with, drawn in the smaller batches: with dropout they fall otherwise than in the batch that
    failed, as they do with another ``--batch_size``.

    Args:
        load: collates batches.
        hooks: called before each optimiser step, in this order.
    """

    def __init__(
        self, backbone: Backbone, optimizer: torch.optim.Optimizer, config: RunConfig, load: Load,
        hooks: Sequence[GradientHook] = (),
    ) -> None:  # fmt: skip
        self._backbone, self._optimizer, self._config, self._load, self._hooks = (
            backbone,
            optimizer,
            config,
            load,
            hooks,
        )

    def epoch(self, plan: Sequence[Sequence[Batch]]) -> Generator[tuple[list[Batch], list[float]], None, None]:
        """Do the steps of ``plan``; after each, its batches as they were run, and their mean losses.

        Raises:
            FedummError: there is no memory for a single sample, or batches can't be cut.
        """
        loaded = self._collated(plan)
        for number, step in enumerate(plan):
            start = random_state(self._backbone.device)
            while True:
                batches = self._cut(step)
                losses = self._gradients(loaded, batches)
                if len(losses) == len(batches):
                    break
                self._make_smaller(batches[len(losses)])
                loaded = self._collated(plan[number:])
                set_random_state(self._backbone.device, start)
            for hook in self._hooks:
                hook()
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
            yield batches, torch.stack(losses).tolist()

    def _collated(self, steps: Sequence[Sequence[Batch]]) -> Iterator[Any]:
        return iter(self._load(batch for step in steps for batch in self._cut(step)))

    def _cut(self, batches: Iterable[Batch]) -> list[Batch]:
        return cut(batches, lambda batch: self._backbone.limits.get(training_on(batch.task)))

    def _gradients(self, loaded: Iterator[Any], batches: Sequence[Batch]) -> list[torch.Tensor]:
        """Add up the gradients of ``batches``; their losses, up to the first for which memory does not suffice.

        A batch weighs as its share of the step's samples: a short last batch counts for what it holds.
        """
        size, losses = sum(len(batch.rows) for batch in batches), list[torch.Tensor]()
        with ends_when_full():
            for batch in batches:
                losses.append(self._backward(next(loaded), batch, len(batch.rows) / size))
        return losses

    def _backward(self, collated: Any, batch: Batch, share: float) -> torch.Tensor:
        work, size = training_on(batch.task), tensor_bytes(collated)
        with self._watched(work, size):
            loss = self._backbone.train_step(collated)
        (loss * share).backward()
        self._backbone.fitted[work] = max(size, self._backbone.fitted.get(work, -1))
        return loss.detach()

    def _watched(self, work: str, size: int) -> AbstractContextManager[None]:
        """On a CPU, whose memory does not run out with an error, a batch larger than any before is watched.

        A third of the free memory is for what the backward pass needs of the forward pass: gradients and what comes and
        goes in between take about as much again, and with some models a little more.
        """
        backbone = self._backbone
        if backbone.device.type != "cpu" or backbone.compiled or size <= backbone.fitted.get(work, -1):
            return nullcontext()
        return keeps_within(free_bytes(backbone.device) // 3, backbone.model)

    def _make_smaller(self, failed: Batch) -> None:
        self._optimizer.zero_grad(set_to_none=True)  # of the step's earlier batches, and part of the failed one's
        size, config = len(failed.rows), self._config
        if size > 1 and not sample_mean(self._backbone):
            raise FedummError(
                f"Out of memory on {self._backbone.device}, training on {size} samples at a time, and the loss of the "
                f"backend {config.model_backend!r} does not say that it is a mean over samples, so they can't be "
                f"divided. Use --batch_size {half(size)} --grad_accum {2 * config.grad_accum}."
            )
        fewer = half(size)
        accumulate = -(-config.batch_size * config.grad_accum // fewer)
        advice = f"--batch_size {fewer} --grad_accum {accumulate} --merge_batches off"
        halve(self._backbone, training_on(failed.task), size, advice)
