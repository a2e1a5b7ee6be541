"""A few steps of a training, measured: what it would take of time and room. Nothing is kept."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch

from fedumm.adapters import spec_of
from fedumm.backends.protocol import HasFrozenStages, Progress
from fedumm.compression.packing import pack
from fedumm.config import RunConfig
from fedumm.data import DataSplits
from fedumm.data.prepare import limits
from fedumm.features.encode import Encoder
from fedumm.features.images import DistinctImages
from fedumm.features.numbers import kept_as
from fedumm.training.backbone import Backbone, load_backbone
from fedumm.training.candidates import training_answers
from fedumm.training.data import references
from fedumm.training.device import peak_bytes, pick_device
from fedumm.training.evaluation import evaluate
from fedumm.training.feature_cache import cache_features
from fedumm.training.threads import thread_count
from fedumm.training.trainer import train_epochs

_STEPS = 4
"""Optimiser steps that are done; the first one, in which memory is found and kernels are chosen, does not count."""

_SCORED, _ENCODED = 64, 8
"""Samples and images that are measured at most."""


@dataclass(frozen=True)
class Rehearsal:
    """What was measured.

    Attributes:
        trainable, total: parameters.
        down, up: bytes of an adapter to a host and of an update to the server, as they would travel.
        step: seconds of an optimiser step.
        steps: how many were measured.
        scored: seconds a sample takes to be scored.
        encoded: seconds an image takes in the frozen stages; 0 where nothing is kept of images.
        image_bytes: bytes that are kept of an image.
        load: seconds that loading the model took.
        peak: bytes of memory that this took at most, on the device; None: not known.
        device: where.
        findings: what the backend found out about the model.
    """

    trainable: int
    total: int
    down: int
    up: int
    step: float
    steps: int
    scored: float
    encoded: float
    image_bytes: float
    load: float
    peak: int | None
    device: str
    findings: tuple[str, ...]


def rehearse(config: RunConfig, splits: DataSplits, wire: tuple[str, str], hosts: int, progress: Progress) -> Rehearsal:
    """Load the model, train a few steps on the first rows of each task and score some.

    Args:
        wire: the codecs of adapters and updates.
        hosts: that share this machine's cores.

    Raises:
        FedummError: the model can't be had, or there is no memory for a single sample.
    """
    torch.set_num_threads(thread_count(config, hosts))
    device = pick_device(config.gpu)
    progress("loading the model", 0, 1)
    begun = time.monotonic()
    backbone = load_backbone(config, device, training_answers(config, splits.train), references(config, splits.eval))
    load = time.monotonic() - begun
    lengths = config.max_q_len, config.max_a_len
    in_a_step = config.batch_size * config.grad_accum
    train, test = (
        backbone.backend.build_dataset(rows, backbone.processor, *lengths)
        for rows in (
            first_rows(splits.train, _STEPS * in_a_step, config.mix),
            first_rows(splits.eval, _SCORED, Counter(_tasks(splits.eval))),
        )
    )
    encoded, image_bytes = _encoding(backbone, train, config, progress)
    if encoded:
        cache_features(backbone, [train, test], replace(config, feature_cache="memory"), progress)
    untrained = backbone.adapter()
    begun = time.monotonic()
    evaluate(backbone, test, config, progress)
    scored = (time.monotonic() - begun) / len(test)
    step, steps = _training(backbone, train, config, progress)
    adapter, spec = backbone.adapter(), spec_of(untrained)
    down, up = (len(pack(state, codec, spec)) for state, codec in ((untrained, wire[0]), (adapter, wire[1])))
    return Rehearsal(
        backbone.trainable, backbone.total, down, up, step, steps, scored, encoded, image_bytes, load,
        peak_bytes(device), str(device), tuple(backbone.findings()),
    )  # fmt: skip


def first_rows(rows: Any, most: int, mix: Mapping[str, int]) -> Any:
    """Up to ``most`` of ``rows``, which come task after task: the first of each task, in the proportions of ``mix``."""
    by_task: dict[str, list[int]] = {}
    for row, task in enumerate(_tasks(rows)):
        by_task.setdefault(task, []).append(row)
    if len(by_task) < 2:
        return rows.select(range(min(most, len(rows))))
    wanted = limits(most, {task: mix[task] for task in by_task})
    return rows.select(sorted(row for task, own in by_task.items() for row in own[: wanted[task]]))


def _tasks(rows: Any) -> list[str]:
    """The task of each row; nothing where the data are of one."""
    return list(rows["task"][:]) if "task" in rows.column_names else []


def _training(backbone: Backbone, dataset: Any, config: RunConfig, progress: Progress) -> tuple[float, int]:
    """Seconds of an optimiser step, and how many were measured."""
    ends = [time.monotonic()]

    def told(done: int, total: int, loss: float) -> None:
        ends.append(time.monotonic())
        progress("trying a few steps", done, total)

    train_epochs(backbone, dataset, config, 1, config.seed, told)
    every = [later - earlier for earlier, later in pairwise(ends)]
    counted: Sequence[float] = every[1:] or every
    return sum(counted) / len(counted), len(counted)


def _encoding(backbone: Backbone, dataset: Any, config: RunConfig, progress: Progress) -> tuple[float, float]:
    """Seconds that an image takes in all frozen stages together, and bytes that are kept of it."""
    if config.feature_cache == "off" or not isinstance(backbone.backend, HasFrozenStages):
        return 0.0, 0.0
    seconds = size = 0.0
    for stage in backbone.backend.frozen_stages(backbone.model, backbone.processor):
        if (part := dataset.part(stage.name)) is None:
            continue
        distinct = DistinctImages([part], progress)
        kept = kept_as(config.feature_dtype, backbone.dtype, stage.module)
        encoder = Encoder(stage, kept, backbone.device, distinct, progress, backbone.dtype)
        size += encoder.image_bytes()
        images = distinct.first_few(max(_ENCODED, encoder.batch_size()))
        seconds += encoder.seconds(images)[1] / len(images)
    return seconds, size
