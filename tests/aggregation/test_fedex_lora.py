"""FedEx-LoRA: means of the factors, and a residual that makes them exact, no longer than it must be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedumm.adapters import spec_of
from fedumm.aggregation.base import ClientContribution
from support.lora_round import (
    SCALE,
    SHAPES,
    adapter,
    aggregate,
    array,
    clients,
    delivered,
    dense_mean,
    distance,
    product,
    same_bits,
    without,
)

WEIGHTS, ALPHAS = [12.0, 5.0, 33.0, 1.0], [3.0, 8.0, 5.0, 1.0]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 3e-7), (torch.bfloat16, 1e-2)]
)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_is_exact_and_its_adapter_is_fedavgs(count: int, dtype: torch.dtype, tolerance: float) -> None:
    begin, parts = adapter(0, dtype=dtype), clients([4] * count, WEIGHTS[:count], ALPHAS[:count], dtype)
    delivery = aggregate("fedex_lora", begin, parts)
    assert distance(delivered(delivery), dense_mean(parts)) < tolerance
    assert spec_of(delivery.adapter) == spec_of(begin)
    for name, tensor in delivery.adapter.items():
        stacked = np.stack([array(part.adapter[name]) for part in parts])
        expected = torch.from_numpy(np.average(stacked, axis=0, weights=WEIGHTS[:count])).to(dtype)
        torch.testing.assert_close(tensor, expected, rtol=torch.finfo(dtype).eps, atol=1e-7)


def test_worked_by_hand() -> None:
    """r = 1, s = 2, shares 1/4 and 3/4: residual 2 * 3/16 * (B_1 - B_2)(A_1 - A_2) = 3/8 * [[4], [0]] [[0, -2, 1]]."""
    begin = {"m.lora_A.weight": torch.zeros(1, 3), "m.lora_B.weight": torch.zeros(2, 1)}
    one = {"m.lora_A.weight": torch.tensor([[1.0, 2, 1]]), "m.lora_B.weight": torch.tensor([[5.0], [1]])}
    two = {"m.lora_A.weight": torch.tensor([[1.0, 4, 0]]), "m.lora_B.weight": torch.tensor([[1.0], [1]])}
    delivery = aggregate(
        "fedex_lora", begin, [ClientContribution("a", one, 1, 2), ClientContribution("b", two, 3, 2)], scale=2.0
    )
    assert delivery.adapter["m.lora_A.weight"].tolist() == [[1, 3.5, 0.25]]
    assert delivery.adapter["m.lora_B.weight"].tolist() == [[2], [1]]
    left, right = delivery.change["m"]
    assert left.shape == (2, 1)
    np.testing.assert_allclose(array(left) @ array(right), [[0, -3, 1.5], [0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_residual_has_the_rank_of_the_deviations(count: int) -> None:
    """(K - 1) r with one alpha, not (K + 1) r: none for a client alone or for clients that agree."""
    parts = clients([4] * count, WEIGHTS[:count], [4 * SCALE] * count)
    change = aggregate("fedex_lora", adapter(0), parts).change
    expected = {m: min(4 * (count - 1), *shape) for m, shape in SHAPES.items() if count > 1}
    assert {module: left.shape[1] for module, (left, _) in change.items()} == expected
    twins = [ClientContribution(f"site-{k}", parts[0].adapter, 1.0, SCALE) for k in range(4)]
    assert aggregate("fedex_lora", adapter(0), twins).change == {}


def test_the_residual_is_against_the_means_as_they_were_rounded() -> None:
    """Clients that hardly differ, in bfloat16: what is left is the means' rounding, and a residual against
    unrounded means would leave it, 2e-3."""
    base = adapter(1)
    parts = [
        ClientContribution(f"site-{k}", {n: (t * (1 + k / 64)).bfloat16() for n, t in base.items()}, 1.0 + k, SCALE)
        for k in range(3)
    ]
    delivery = aggregate("fedex_lora", adapter(0, dtype=torch.bfloat16), parts)
    means = {m: product(delivery.adapter, m, SCALE) for m in SHAPES}
    assert distance(means, dense_mean(parts)) > 1e-3
    assert distance(delivered(delivery), dense_mean(parts)) < 1e-4


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(4)))
def test_any_order_gives_the_same_bits(order: list[int]) -> None:
    begin, parts = adapter(0), clients([4] * 4, [0.1, 1 / 3, 0.7, math.pi], ALPHAS)
    assert same_bits(aggregate("fedex_lora", begin, [parts[i] for i in order]), aggregate("fedex_lora", begin, parts))


def test_factors_are_averaged_over_those_who_sent_them() -> None:
    """Client 1 sent only B, so its product is with the A it was given; the residual makes up for the uneven means."""
    begin = adapter(0)
    first, second = clients([4, 4], [1.0, 3.0], [6.0, 2.0])
    delivery = aggregate(
        "fedex_lora",
        begin,
        [
            without(first, "lora_A.weight", "wide.lora_B.weight"),
            without(second, "wide.lora_A.weight", "wide.lora_B.weight"),
        ],
    )
    assert all(torch.equal(delivery.adapter[n], t) for n, t in begin.items() if n.startswith("wide"))
    assert "wide" not in delivery.change
    assert torch.equal(delivery.adapter["tall.lora_A.weight"], second.adapter["tall.lora_A.weight"])
    expected = {}
    for module in ("tall", "narrow", "same"):
        own = first.scale * array(first.adapter[f"{module}.lora_B.weight"]) @ array(begin[f"{module}.lora_A.weight"])
        expected[module] = (own + 3 * product(second.adapter, module, second.scale)) / 4
    assert distance(delivered(delivery), expected) < 3e-7


def test_ranks_must_be_equal() -> None:
    with pytest.raises(ValueError, match=r"site-1: .*lora_A.weight is float32\[2, 20\], expected float32\[4, 20\]"):
        aggregate("fedex_lora", adapter(0), clients([2], [1.0], [2.0]))
