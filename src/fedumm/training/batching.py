"""The order of samples in an epoch, and the batches they form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fedumm.config import RunConfig
from fedumm.seeds import derive
from fedumm.training.fitting import fitting

_MERGED_SAMPLES = 64
_MERGED_TOKENS = 8192
"""Most samples and tokens in a batch that is merged of smaller ones, on a device of ordinary size."""


@dataclass(frozen=True)
class Batch:
    """Positions in the data set of samples of one task."""

    task: str
    rows: list[int]


def tasks_of(dataset: Any, config: RunConfig) -> Sequence[str]:
    """The task of each sample; that of the run where the data set knows of none."""
    tasks: Sequence[str] = getattr(dataset, "tasks", None) or [config.tasks[0]] * len(dataset)
    return tasks


def cut(batches: Iterable[Batch], limit: Callable[[Batch], int | None]) -> list[Batch]:
    """``batches``, those with more than ``limit`` samples in several."""
    parts = []
    for batch in batches:
        most = limit(batch) or len(batch.rows)
        parts += [Batch(batch.task, batch.rows[i : i + most]) for i in range(0, len(batch.rows), most)]
    return parts


def epoch_steps(dataset: Any, config: RunConfig, merge: int, seed: int) -> list[list[Batch]]:
    """One epoch in random order, of as many samples as the data set has: optimiser steps, each a list of batches.

    A step takes ``batch_size * grad_accum`` samples, the last one what is left, of each task in the
    proportions of ``--task_mix``. They are cut into batches of ``batch_size``, or, if ``merge`` is not 0, of up
    to 64 times that many. Where samples' lengths in tokens are known, those of about the same length come together,
    and merged batches hold up to 8192 tokens times that many.
    """
    tasks, step = tasks_of(dataset, config), config.batch_size * config.grad_accum
    order = _order(tasks, config.mix, seed)
    # Of a data set without tasks, lengths are for evaluation only.
    lengths = dataset.lengths if hasattr(dataset, "tasks") else None
    return [
        list(_batches(order[i : i + step], tasks, lengths, config.batch_size, merge))
        for i in range(0, len(order), step)
    ]


def _order(tasks: Sequence[str], mix: Mapping[str, int], seed: int) -> list[int]:
    rows = {task: [row for row, own in enumerate(tasks) if own == task] for task in mix}
    rows = {task: own for task, own in rows.items() if own}
    if len(rows) == 1:
        order: list[int] = torch.randperm(len(tasks), generator=torch.Generator().manual_seed(seed)).tolist()
        return order
    streams = {task: _shuffled(own, derive(seed, task)) for task, own in rows.items()}
    total, drawn = sum(mix[task] for task in rows), dict.fromkeys(rows, 0)
    mixed = []
    for place in range(len(tasks)):
        # The task that lags furthest behind its share.
        task = max(rows, key=lambda name: mix[name] * (place + 1) - drawn[name] * total)
        drawn[task] += 1
        mixed.append(next(streams[task]))
    return mixed


def _shuffled(rows: Sequence[int], seed: int) -> Iterator[int]:
    """All rows in random order, again and again."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for place in torch.randperm(len(rows), generator=generator).tolist():
            yield rows[place]


def _batches(
    rows: Sequence[int], tasks: Sequence[str], lengths: Sequence[int] | None, size: int, merge: int
) -> Iterator[Batch]:
    most = max(size, merge * _MERGED_SAMPLES)
    for task in dict.fromkeys(sorted(tasks[row] for row in rows)):
        own = [row for row in rows if tasks[row] == task]
        if lengths is not None:
            own.sort(key=lambda row: -lengths[row])
        while own:
            fitting = most if lengths is None or not merge else max(size, merge * _MERGED_TOKENS // lengths[own[0]])
            count = min(most, fitting)
            yield Batch(task, own[:count])
            own = own[count:]


def evaluation_batches(dataset: Any, config: RunConfig, most: int, budget: int | None = None) -> list[Batch]:
    """Every sample once, in batches of one task and about one length: less padding to compute.

    Args:
        most: most samples in a batch.
        budget: most tokens in it, padding and the longest answer included, where samples' lengths are known.
    """
    tasks = tasks_of(dataset, config)
    lengths = dataset.lengths if hasattr(dataset, "lengths") else [0] * len(tasks)
    budget = budget if hasattr(dataset, "lengths") else None
    order = sorted(range(len(tasks)), key=lambda row: (tasks[row], lengths[row]))
    batches = []
    for task in dict.fromkeys(tasks[row] for row in order):
        own = [row for row in order if tasks[row] == task]
        tokens = [lengths[row] + config.max_a_len for row in own]
        start = 0
        while start < len(own):
            count = fitting(tokens[start : start + most], most, budget)
            batches.append(Batch(task, own[start : start + count]))
            start += count
    return batches
