"""FLoRA: what goes into the backbone is the dense mean, for any ranks; the adapter starts again as PEFT's."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedumm.adapters import spec_of
from fedumm.aggregation.initial import initial_a
from support.lora_round import (
    RANK,
    SCALE,
    SHAPES,
    adapter,
    aggregate,
    array,
    clients,
    delivered,
    dense_mean,
    distance,
    same_bits,
    without,
)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-7), (torch.bfloat16, 1e-2)]
)
@pytest.mark.parametrize("ranks", [[4, 4, 4, 4], [1, 4, 2, 3], [1, 1, 1, 1]])
def test_is_exact(ranks: list[int], dtype: torch.dtype, tolerance: float) -> None:
    begin, parts = adapter(0, dtype=dtype), clients(ranks, [12.0, 5.0, 33.0, 1.0], [3.0, 8.0, 5.0, 1.0], dtype)
    delivery = aggregate("flora", begin, parts)
    assert distance(delivered(delivery), dense_mean(parts)) < tolerance
    assert spec_of(delivery.adapter) == spec_of(begin)
    for module, (left, right) in delivery.change.items():
        inner = min(sum(ranks), *SHAPES[module])
        assert (left.shape, right.shape) == ((SHAPES[module][0], inner), (inner, SHAPES[module][1]))
        assert left.dtype == right.dtype == dtype


def test_stacks_factors_as_the_paper_does() -> None:
    """Shares and alpha / r once, here with B: left = [p_1 s_1 B_1, p_2 s_2 B_2], right = [A_1; A_2]."""
    first, second = clients([1, 2], [3.0, 1.0], [4.0, 4.0])
    left, right = aggregate("flora", adapter(0), [second, first]).change["tall"]
    b_name, a_name = "tall.lora_B.weight", "tall.lora_A.weight"
    assert torch.equal(left, torch.cat([0.75 * 4 * first.adapter[b_name], 0.25 * 2 * second.adapter[b_name]], dim=1))
    assert torch.equal(right, torch.cat([first.adapter[a_name], second.adapter[a_name]]))


def test_the_fresh_adapter_adds_nothing_and_is_drawn_as_pefts() -> None:
    state = aggregate("flora", adapter(0), clients([4], [1.0], [4.0]), seed=3).adapter
    for module, (_, into) in SHAPES.items():
        assert not state[f"{module}.lora_B.weight"].any()
        a = state[f"{module}.lora_A.weight"]
        assert torch.equal(a, initial_a(a, 3, module))
        assert a.abs().max() <= into**-0.5
    large = initial_a(torch.empty(64, 100), 0, "m")
    assert array(large).std() == pytest.approx(0.1 / math.sqrt(3), rel=0.02)
    assert array(large).mean() == pytest.approx(0, abs=0.002)
    assert not torch.equal(large, initial_a(large, 1, "m"))
    assert not torch.equal(large, initial_a(large, 0, "n"))
    torch.testing.assert_close(initial_a(large.bfloat16(), 0, "m"), large.bfloat16(), rtol=0, atol=0)


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(4)))
def test_any_order_gives_the_same_bits(order: list[int]) -> None:
    begin, parts = adapter(0), clients([1, 4, 2, 3], [0.1, 1 / 3, 0.7, math.pi], [3.0, 8.0, 5.0, 1.0])
    assert same_bits(aggregate("flora", begin, [parts[i] for i in order]), aggregate("flora", begin, parts))


def test_what_nobody_sent_stays_in_the_adapter() -> None:
    begin = adapter(0)
    parts = [
        without(part, "wide.lora_A.weight", "wide.lora_B.weight", "tall.lora_A.weight", "head.bias")
        for part in clients([4, 2], [1.0, 2.0], [4.0, 2.0])
    ]
    delivery = aggregate("flora", begin, parts)
    assert set(delivery.change) == {"tall", "narrow", "same"}
    assert all(torch.equal(delivery.adapter[name], begin[name]) for name in begin if name.startswith(("wide", "head")))
    b, a = (
        array(torch.cat([p.adapter["tall.lora_B.weight"] for p in parts], dim=1)),
        array(begin["tall.lora_A.weight"]),
    )
    expected = {"tall": (b[:, :RANK] @ a + 2 * b[:, RANK:] @ a[:2]) / 3}
    assert distance(delivered(delivery, SCALE), expected) < 1e-6
