"""What a client of another rank or alpha starts from, against dense products in float64."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fedumm.federation.protocol.client_view import client_start, scale_of, steps_of
from support.lora_round import SHAPES, adapter, array
from support.lora_toy_backend import LAYERS, frozen_toy
from support.toy import Driven, lora_options, toy_config

OPTIONS = lora_options(aggregator="svd", lora_r="4,site-1=2", lora_alpha="6,site-1=5,site-2=3")
# Rank and alpha / rank of each; the global adapter has 4 and 6 / 4.
CLIENTS = {"site-1": (2, 5 / 2), "site-2": (4, 3 / 4), "site-3": (4, 6 / 4)}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_starts_with_the_global_product_as_far_as_its_rank_goes(client: str) -> None:
    """``s_k B_k A_k = s B[:, :r_k] A[:r_k]``, with A as it is."""
    (rank, scale), state = CLIENTS[client], adapter(1)
    start = client_start(state, toy_config(**OPTIONS), client)
    assert torch.equal(start["head.bias"], state["head.bias"])
    for module in SHAPES:
        a, b = (array(state[f"{module}.lora_{factor}.weight"]) for factor in "AB")
        own_a, own_b = (array(start[f"{module}.lora_{factor}.weight"]) for factor in "AB")
        np.testing.assert_array_equal(own_a, a[:rank])
        np.testing.assert_allclose(scale * own_b @ own_a, 6 / 4 * b[:, :rank] @ a[:rank], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("client", CLIENTS)
def test_the_model_of_a_client_computes_with_that_product(client: str, tmp_path: Path) -> None:
    """After two rounds, on a host whose model has the highest rank and its own alpha."""
    run = Driven(tmp_path / "run", {"host-1": list(CLIENTS)}, toy_config(**OPTIONS))
    model, rank = run.hosts["host-1"].ready.model, CLIENTS[client][0]
    model.put_for(client, {})
    features = torch.rand(20, LAYERS["first"][0], generator=torch.Generator().manual_seed(1))
    values, plain = array(features), frozen_toy()
    for layer in LAYERS:
        a, b = (array(t) for f in "AB" for n, t in model.adapter.items() if n.endswith(f"{layer}.lora_{f}.weight"))
        frozen = getattr(plain, layer)
        weight = array(frozen.weight) + 6 / 4 * b[:, :rank] @ a[:rank]
        values = values @ weight.T + array(frozen.bias)
        values = values if layer == "answer" else np.tanh(values)
    np.testing.assert_allclose(array(model.backbone.model(features).detach()), values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("peft", "scale"),
    [
        ({}, 6 / 4),
        ({"r": 16, "lora_alpha": 8}, 8 / 16),
        ({"r": 16, "lora_alpha": 8, "use_rslora": False}, 8 / 16),
        ({"r": 16, "lora_alpha": 8, "use_rslora": True}, 8 / math.sqrt(16)),
        ({"use_rslora": True}, 6 / math.sqrt(4)),
    ],
)
def test_the_global_scale_is_that_of_pefts_configuration(peft: dict[str, float], scale: float) -> None:
    assert scale_of(peft, toy_config(**lora_options())) == pytest.approx(scale)


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 48, 49])
def test_steps_are_those_of_counting_them(rows: int) -> None:
    """An epoch's last batches make a step, too, also where they are few."""
    config = toy_config(local_epochs=3, batch_size=4, grad_accum=2)
    assert steps_of(config, rows) == sum(1 for _ in range(3) for first in range(0, rows, 8))
