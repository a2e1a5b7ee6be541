"""Training that stops when its time is over: the steps until then are those of a training without a limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from fedumm.adapters import AdapterState
from fedumm.config import FederateConfig
from fedumm.plugins import load_plugins
from fedumm.seeds import derive
from fedumm.training import trainer
from fedumm.training.backbone import Backbone, load_backbone
from fedumm.training.batching import epoch_steps
from fedumm.training.data import load_splits
from fedumm.training.results import TrainResult
from fedumm.training.schedule import share_of_lr
from fedumm.training.trainer import train_epochs
from support.clock import a_second_a_step
from support.toy import lora_options, toy_config

CPU, SEED, SPAN, EPOCHS, PLANNED = torch.device("cpu"), 5, (0.25, 0.5), 2, 18
CASES: list[dict[str, Any]] = [{}, {"lr_schedule": "cosine", "lr_warmup": 0.3}]


def options(**more: Any) -> FederateConfig:
    config = toy_config(**lora_options(lora_dropout=0.2, **more))
    load_plugins(config.plugins, again=True)
    return config


def fresh(config: FederateConfig) -> tuple[Backbone, Any]:
    backbone = load_backbone(config, CPU)
    rows = load_splits(config).train
    return backbone, backbone.backend.build_dataset(rows, None, 64, 16)


def trained(config: FederateConfig, seconds: float = 0.0, **more: Any) -> tuple[TrainResult, AdapterState]:
    backbone, dataset = fresh(config)
    result = train_epochs(backbone, dataset, config, EPOCHS, SEED, span=SPAN, seconds=seconds, **more)
    assert not backbone.model.training
    return result, backbone.adapter()


def by_hand(config: FederateConfig, most: int) -> tuple[list[tuple[float, int]], AdapterState]:
    """``most`` steps, written out: the loss and size of each batch, and the adapter."""
    backbone, dataset = fresh(config)
    weights = [p for p in backbone.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    losses, done = list[tuple[float, int]](), 0
    for epoch in range(EPOCHS):
        torch.manual_seed(derive(SEED, "dropout", epoch))
        torch.empty((), dtype=torch.int64).random_()  # a data loader's own
        backbone.model.train()
        for step in epoch_steps(dataset, config, 0, derive(SEED, "order", epoch)):
            if done == most:
                break
            whole = sum(len(batch.rows) for batch in step)
            for batch in step:
                collated = backbone.backend.collate_fn([dataset[row] for row in batch.rows])
                loss = backbone.backend.train_step(backbone.model, collated, CPU)
                (loss * (len(batch.rows) / whole)).backward()
                losses.append((float(loss.detach()), len(batch.rows)))
            over = SPAN[0] + (SPAN[1] - SPAN[0]) * (done + 0.5) / PLANNED
            for group in optimizer.param_groups:
                group["lr"] = config.lr * share_of_lr(config.lr_schedule, config.lr_warmup, over)
            optimizer.step()
            optimizer.zero_grad()
            done += 1
    return losses, backbone.adapter()


@pytest.mark.parametrize("more", CASES)
@pytest.mark.parametrize("steps", [1, 4, 9, 13])
def test_a_cut_training_is_that_of_as_many_steps(
    steps: int, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    a_second_a_step(monkeypatch)
    config = options(**more)
    told: list[tuple[float, int]] = []
    result, adapter = trained(config, seconds=steps, on_step=lambda *step: told.append(step))
    losses, expected = by_hand(config, steps)
    assert (result.steps, result.samples, len(told)) == (steps, 72, steps)
    assert all(torch.equal(t, expected[name]) for name, t in adapter.items())
    samples = sum(size for _, size in losses)
    assert result.loss == pytest.approx(sum(loss * size for loss, size in losses) / samples)
    assert result.losses == pytest.approx({"vqa": result.loss})


@pytest.mark.parametrize("more", CASES)
def test_one_that_is_through_in_time_has_the_bits_of_one_without_a_limit(
    more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = options(**more)
    plain, expected = trained(config)
    a_second_a_step(monkeypatch)
    result, adapter = trained(config, seconds=PLANNED)
    assert (result.steps, result.loss, result.losses) == (plain.steps, plain.loss, plain.losses)
    assert plain.steps == PLANNED
    assert all(torch.equal(t, expected[name]) for name, t in adapter.items())


def test_there_is_always_a_step() -> None:
    assert trained(options(), seconds=1e-9)[0].steps == 1


def test_batches_that_are_not_wanted_any_more_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader with workers or a thread ends with the training, not when it happens to be collected."""
    closed: list[bool] = []

    def loader(backbone: Backbone, dataset: Any, batches: Any, config: FederateConfig) -> Iterator[Any]:
        try:
            for batch in batches:
                yield backbone.backend.collate_fn([dataset[row] for row in batch.rows])
        finally:
            closed.append(True)

    a_second_a_step(monkeypatch)
    monkeypatch.setattr(trainer, "loader", loader)
    trained(options(), seconds=2, after_epoch=lambda *_: closed.append(False))
    assert closed == [True, False]
