"""Each client alone: what it learns follows from its own rows and the seed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.assignment import client_names
from fedumm.metrics.evaluation import summary
from fedumm.seeds import derive
from fedumm.training.backbone import Backbone, load_backbone
from fedumm.training.data import load_splits, partition_for
from fedumm.training.dataset_pool import DatasetPool
from fedumm.training.evaluation import evaluate
from fedumm.training.local_only import ClientData, put_first, spread_over_clients, train_alone
from fedumm.training.trainer import train_epochs

CONFIG = FederateConfig(
    model_backend="blip_vqa", model_name_or_path="tiny", dataset="easy_vqa", lora_r=2, max_train_samples=40,
    max_eval_samples=12, num_clients=2, num_rounds=2, local_epochs=2, dirichlet_alpha=0.5, lr=3e-3, gpu="cpu",
)  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def prepared() -> tuple[Backbone, dict[str, ClientData], dict[str, list[int]], Any]:
    splits = load_splits(CONFIG)
    backbone = load_backbone(CONFIG, CPU)
    partition, _ = partition_for(CONFIG, splits.train, client_names(2))
    pool = DatasetPool(backbone, splits.train, CONFIG, range(len(splits.train)))
    test = DatasetPool(backbone, splits.eval, CONFIG, range(12)).part(range(12))
    data = {
        name: ClientData(pool.part(share.train.tolist()), pool.part(share.heldout.tolist()), test)
        for name, share in partition.shares.items()
    }
    return backbone, data, {name: share.train.tolist() for name, share in partition.shares.items()}, splits


def alone(backbone: Backbone, first: Any, data: dict[str, ClientData], client: str) -> tuple[dict[str, Any], Any]:
    record = train_alone(backbone, first, client, data[client], CONFIG, lambda *_: None)
    return record, backbone.adapter()


def test_it_is_training_on_the_own_rows_from_the_first_adapter(prepared: Any) -> None:
    backbone, data, own, splits = prepared
    first = load_backbone(CONFIG, CPU).adapter()
    record, adapter = alone(backbone, first, data, "site-2")
    # The same by hand, on a model of its own and rows that were selected beforehand.
    other = load_backbone(CONFIG, CPU)
    rows = splits.train.select(own["site-2"])
    dataset = other.backend.build_dataset(rows, other.processor, CONFIG.max_q_len, CONFIG.max_a_len)
    result = train_epochs(other, dataset, CONFIG, 4, derive(CONFIG.seed, "local only", "site-2"))
    expected = other.adapter()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in adapter.items())
    assert any(not torch.equal(tensor, first[name]) for name, tensor in adapter.items())
    tests = other.backend.build_dataset(splits.eval, other.processor, CONFIG.max_q_len, CONFIG.max_a_len)
    untrained = load_backbone(CONFIG, CPU)
    assert record["heldout_before_tasks"] == summary("", evaluate(untrained, data["site-2"].heldout, CONFIG))["_tasks"]
    assert record["test"] == evaluate(other, tests, CONFIG)["vqa"].score
    assert (record["train_loss"], record["num_samples"]) == (result.loss, len(own["site-2"]))


def test_no_client_depends_on_another(prepared: Any) -> None:
    backbone, data, _, _ = prepared
    first = load_backbone(CONFIG, CPU).adapter()
    before = alone(backbone, first, data, "site-1")
    between = alone(backbone, first, data, "site-2")
    again = alone(backbone, first, data, "site-1")
    assert before[0] == again[0]
    assert all(torch.equal(tensor, again[1][name]) for name, tensor in before[1].items())
    assert any(not torch.equal(tensor, between[1][name]) for name, tensor in before[1].items())


def test_a_client_of_a_lower_rank_trains_that_rank(prepared: Any) -> None:
    backbone, data, _, _ = prepared
    first = load_backbone(CONFIG, CPU).adapter()
    config = replace(CONFIG, lora_r="2,site-1=1")
    put_first(backbone, first, "site-1", config)
    train_alone(backbone, first, "site-1", data["site-1"], config, lambda *_: None)
    for name, tensor in backbone.adapter().items():
        beyond = tensor[1:] if ".lora_A." in name else tensor[:, 1:]
        assert not beyond.any()
    backbone.slot.set_scale(CONFIG.alpha / CONFIG.rank)


def test_a_loss_that_is_no_number_is_an_error(prepared: Any) -> None:
    backbone, data, _, _ = prepared
    first, config = load_backbone(CONFIG, CPU).adapter(), replace(CONFIG, lr=1e30)
    with pytest.raises(FedummError, match="--lr"):
        train_alone(backbone, first, "site-1", data["site-1"], config, lambda *_: None)


def test_mean_spread_and_worst_over_clients() -> None:
    records = [{"test": 0.2, "heldout": None}, {"test": 0.4, "heldout": None}, {"test": 0.6, "heldout": None}]
    over = spread_over_clients(records, "test")
    assert over == {"mean": pytest.approx(0.4), "spread": pytest.approx((0.08 / 3) ** 0.5), "worst": 0.2}
    assert spread_over_clients(records, "heldout") is None
