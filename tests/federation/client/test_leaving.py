"""What a site is told that would leave it is what leaves it, by the updates of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fedumm.compression.header import tensors_in
from fedumm.config import FederateConfig
from fedumm.federation.client.leaving import Leaving, told, what_leaves
from fedumm.plugins import load_plugins
from fedumm.training.backbone import load_backbone
from fedumm.training.data import load_splits
from fedumm.training.fingerprint import frozen_fingerprint
from support.toy import Driven, lora_options, toy_config


def quiet(*_: object) -> None: ...


def config_of(**options: Any) -> FederateConfig:
    return toy_config(**lora_options(num_clients=2, num_rounds=3, **options))


def leaving(config: FederateConfig, site: str = "site-1") -> Leaving:
    load_plugins(config.plugins, again=True)
    return what_leaves(config, site, load_splits(config, quiet), quiet)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"wire": "int8"},
        {"wire": "int8", "top_k": 0.25},
        {"scaffold": True, "wire": "int8"},
        {"aggregator": "rolora"},
        {"aggregator": "rolora", "secure_aggregation": True},
        {"aggregator": "ffa_lora", "wire": "nf4"},
        {"aggregator": "svd", "lora_r": "4,site-1=2", "lora_alpha": "6,site-1=3"},
        {"dp": "local", "dp_noise_multiplier": 1.0, "client_weights": "equal", "aggregator": "ffa_lora"},
    ],
    ids=lambda options: " ".join(map(str, options.values())) or "plain",
)
def test_it_is_what_a_run_sends(options: dict[str, Any], tmp_path: Path) -> None:
    config = config_of(**options)
    expected = leaving(config)
    run = Driven(tmp_path / "run", {"host-1": ["site-1", "site-2"]}, config)
    updates = [updates["site-1"] for task, updates in run.rounds if task.train]
    assert expected.rounds == [len(update.adapter) for update in updates]
    assert [len(update.control) for update in updates] == [expected.control] * 3
    assert expected.all_rounds == sum(update.size for update in updates)
    masked = config.secure_aggregation
    assert masked or len(expected.tensors) == tensors_in(updates[0].adapter, len(run.server.aggregation.adapter))
    lines = "\n".join(told(config, expected))
    assert ("under masks" in lines) == ("sealed shares" in lines) == masked
    assert ("noisy" in lines) == (config.dp == "local")
    assert ("training loss;" in lines) == (config.dp == "off")


def test_own_rows_are_told_in_numbers_and_no_labels() -> None:
    config = config_of(partition="own", in_process=False, dirichlet_alpha=0.0)
    own = leaving(config, "hospital")
    assert own.clients is not None
    assert (own.clients["train"] + own.clients["heldout"], own.clients["labels"]) == (72, {})
    lines = told(config, own)
    assert f"{own.clients['train']:,} rows to train on" in lines[0]
    assert "nothing about labels" in lines[0]
    assert [line for line in lines if "own test rows" in line]
    private = config_of(
        partition="own",
        in_process=False,
        dirichlet_alpha=0.0,
        dp="local",
        dp_noise_multiplier=1.0,
        aggregator="ffa_lora",
    )
    assert not [line for line in told(private, own) if "own test rows" in line]


def test_ranks_of_answers_are_told_where_the_server_gets_them() -> None:
    config = config_of(label_counts="ranks")
    assert "by rank, not by text" in told(config, leaving(config))[0]
    assert leaving(config, "hospital").clients is None, "its place among the clients decides"


def test_the_fingerprint_is_of_the_model_and_of_no_adapter() -> None:
    """Nor of the type that the weights were loaded in, bfloat16 or float32."""
    config = config_of()
    load_plugins(config.plugins, again=True)
    models = [load_backbone(c, torch.device("cpu")) for c in (config, config_of(lora_r=2, seed=7))]
    first, other = (frozen_fingerprint(backbone.model) for backbone in models)
    assert first == other
    in_bfloat16, in_float32 = (frozen_fingerprint(models[0].model.to(t)) for t in (torch.bfloat16, torch.float32))
    assert in_bfloat16 == in_float32 == first
    with torch.no_grad():
        frozen = next(p for p in models[1].model.parameters() if not p.requires_grad)
        frozen.view(-1)[0] += 1
    assert frozen_fingerprint(models[1].model) != first
    assert frozen_fingerprint(models[1].model.to("meta")) == "", "nothing is known of weights that are not there"
