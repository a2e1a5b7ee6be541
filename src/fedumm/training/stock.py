"""Data and models that the runs of one process share, where their options are equal: made once, and used again.

A run gets the same bits as it would get alone. The first adapter follows from the seed as a fresh load draws it, so for
each seed the model is loaded once, and its first adapter is kept; a run with a seed that was seen before, or another
run with the same one, gets that adapter on the model that is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from fedumm.adapters import AdapterState
from fedumm.backends.answers import RANK
from fedumm.backends.protocol import Progress
from fedumm.backends.registry import BACKENDS
from fedumm.config import RunConfig, option_fields
from fedumm.data import DataSplits
from fedumm.training.backbone import Backbone, load_backbone
from fedumm.training.data import load_splits
from fedumm.training.data_check import DataReport, check_data, data_to_check

_NOT_OF_THE_MODEL = {
    "seed", "lr", "lr_schedule", "lr_warmup", "patience", "dry_run", "weight_decay", "batch_size", "grad_accum",
    "eval_batch_size", "merge_batches", "num_workers", "threads", "geneval_prompts", "geneval_every",
}  # fmt: skip
"""Options that no loaded model depends on: how it is trained."""

_NOT_OF_THE_DATA = _NOT_OF_THE_MODEL | {"lora_r", "lora_alpha", "lora_dropout", "gradient_checkpointing", "compile"}
"""Options that neither the rows nor what is said of them depends on."""


def _values(config: RunConfig, without: set[str]) -> tuple[Any, ...]:
    return tuple(getattr(config, f.name) for f in option_fields(RunConfig) if f.name not in without)


def _data_key(config: RunConfig) -> tuple[Any, ...]:
    """What is to rank is told by all rows of a central run, and not of a federated one."""
    kind = type(config) if config.answer_mode == RANK else None
    return (kind, *_values(config, _NOT_OF_THE_DATA))


@dataclass
class Stock:
    """What is kept for the next run. A new one has nothing: each run makes its own.

    Args:
        keeps: whether anything is kept. One model at a time is, and the rows of one data set.
    """

    keeps: bool = False
    _data: dict[Any, tuple[DataSplits, DataReport | None]] = field(default_factory=dict)
    _model: tuple[Any, Backbone] | None = None
    _first: dict[int, AdapterState] = field(default_factory=dict)
    _first_of: Any = None
    loads: int = 0
    """How often a model was loaded."""

    def splits(self, config: RunConfig) -> DataSplits:
        """As :func:`fedumm.training.data.load_splits`."""
        there = self._data.get(_data_key(config))
        return there[0] if there else load_splits(config)

    def checked(self, config: RunConfig, progress: Progress) -> tuple[DataSplits, DataReport]:
        """The rows of a run, whose images were opened, and what is to be said of them.

        Raises:
            FedummError: see :func:`fedumm.training.data_check.data_to_check`, and ``check_data`` there.
        """
        key = _data_key(config)
        splits, report = self._data.get(key, (None, None))
        splits = data_to_check(config, progress) if splits is None else splits
        report = report or check_data(config, splits, progress)
        if self.keeps:
            self._data = {key: (splits, report)}
        return splits, report

    def backbone(
        self,
        config: RunConfig,
        device: torch.device,
        candidates: Sequence[str] = (),
        references: Sequence[Sequence[str]] = (),
        alone: bool = False,
    ) -> Backbone:
        """As :func:`fedumm.training.backbone.load_backbone`.

        Args:
            alone: the run changes the frozen weights, so that nobody else can have the model.
        """
        if not self.keeps or alone or not _may_share(config):
            self._model = None
            self.loads += 1
            return load_backbone(config, device, candidates, references)
        key = (
            _values(config, _NOT_OF_THE_MODEL | {"dataset"}),
            str(device),
            tuple(candidates),
            tuple(map(tuple, references)),
        )
        if self._first_of != key:
            self._first.clear()
            self._first_of = key
        first = self._first.get(config.seed)
        if self._model and first is not None and self._model[0] == key:
            return _again(self._model[1], first)
        # Let go of the old one first: two may not fit.
        self._model = None
        backbone = load_backbone(config, device, candidates, references)
        self.loads += 1
        self._model, self._first[config.seed] = (key, backbone), backbone.adapter()
        return backbone


def _may_share(config: RunConfig) -> bool:
    """Of a backend of a user's own nobody knows what it keeps; a compiled step depends on what it saw before."""
    return BACKENDS.is_shipped(config.model_backend) and config.equal_ranks and not config.compile


def _again(used: Backbone, first: AdapterState) -> Backbone:
    """A backbone as it was when it was loaded: another adapter, and no limit that memory has set before."""
    used.model.zero_grad(set_to_none=True)
    used.model.eval()
    fresh = Backbone(used.backend, used.model, used.processor, used.device, used.dtype, used.compiled)
    fresh.put(first)
    return fresh
