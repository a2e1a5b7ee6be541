"""What runs of one process share changes no run's bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from fedumm.config import CentralConfig, FederateConfig
from fedumm.training.backbone import load_backbone
from fedumm.training.stock import Stock

CPU = torch.device("cpu")
OPTIONS: dict[str, Any] = {
    "model_backend": "blip_vqa",
    "model_name_or_path": "tiny",
    "dataset": "easy_vqa",
    "lora_r": 4,
}
CONFIG = FederateConfig(**OPTIONS, max_train_samples=8, max_eval_samples=4)


@pytest.fixture
def stock() -> Stock:
    return Stock(keeps=True)


def test_each_seed_gets_the_adapter_of_a_fresh_load(stock: Stock) -> None:
    for seed in (1, 2, 1, 2):
        config = replace(CONFIG, seed=seed)
        shared, fresh = stock.backbone(config, CPU), load_backbone(config, CPU)
        expected = fresh.adapter()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in shared.adapter().items())
        assert shared.limits == {} == shared.fitted
        assert not shared.model.training
        # As a run that failed leaves it.
        shared.put({name: tensor + 1 for name, tensor in expected.items()})
        shared.model.train()
        shared.limits["vqa"] = 3
    assert stock.loads == 2


@pytest.mark.parametrize("other", [{"lora_r": 2}, {"lora_dropout": 0.0}, {"dtype": "bfloat16"}, {"prompt": "Answer:"}])
def test_another_model_is_loaded(stock: Stock, other: dict[str, Any]) -> None:
    if "prompt" in other:
        other = {"max_a_len": 3}
    stock.backbone(CONFIG, CPU)
    shared = stock.backbone(replace(CONFIG, **other), CPU)
    fresh = load_backbone(replace(CONFIG, **other), CPU).adapter()
    assert stock.loads == 2
    assert all(torch.equal(tensor, fresh[name]) for name, tensor in shared.adapter().items())


def test_how_it_is_trained_and_split_needs_no_other_model(stock: Stock) -> None:
    first = stock.backbone(CONFIG, CPU)
    for other in ({"lr": 0.1}, {"num_clients": 3}, {"dirichlet_alpha": 0.1}, {"batch_size": 2}, {"num_rounds": 9}):
        assert stock.backbone(replace(CONFIG, **other), CPU).model is first.model
    assert stock.backbone(CentralConfig(**OPTIONS, max_train_samples=8, max_eval_samples=4), CPU).model is first.model


@pytest.mark.parametrize("alone", [{"alone": True}, {"candidates": ("red",)}])
def test_a_model_that_may_not_be_shared_is_not(stock: Stock, alone: dict[str, Any]) -> None:
    first = stock.backbone(CONFIG, CPU)
    second = stock.backbone(CONFIG, CPU, **alone)
    assert second.model is not first.model
    if "alone" in alone:
        assert stock.backbone(CONFIG, CPU).model is not second.model


def test_first_adapters_are_of_one_model_only(stock: Stock) -> None:
    """Those of the model before are not taken for those of the next, with a run between them that shared nothing."""
    for seed in (1, 2):
        stock.backbone(replace(CONFIG, seed=seed), CPU)
    stock.backbone(CONFIG, CPU, alone=True)
    for seed in (1, 2):
        config = replace(CONFIG, seed=seed, lora_r=2)
        fresh = load_backbone(config, CPU).adapter()
        assert all(torch.equal(own, fresh[name]) for name, own in stock.backbone(config, CPU).adapter().items())


def test_unequal_ranks_are_never_shared(stock: Stock) -> None:
    config = replace(CONFIG, lora_r="4,site-1=2")
    assert stock.backbone(config, CPU).model is not stock.backbone(config, CPU).model


def test_rows_are_read_once(stock: Stock) -> None:
    splits, report = stock.checked(CONFIG, lambda *_: None)
    assert stock.checked(replace(CONFIG, seed=3, lr=0.1, lora_r=2), lambda *_: None)[0] is splits
    assert stock.splits(CONFIG) is splits
    other, _ = stock.checked(replace(CONFIG, max_train_samples=6), lambda *_: None)
    assert (len(other.train), len(splits.train)) == (6, 8)
    assert report.train.rows.samples == 8


def test_a_single_run_keeps_nothing() -> None:
    stock = Stock()
    assert stock.splits(CONFIG) is not stock.splits(CONFIG)
    assert stock.backbone(CONFIG, CPU).model is not stock.backbone(CONFIG, CPU).model
