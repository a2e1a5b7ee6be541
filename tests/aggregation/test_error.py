"""The aggregation error from factors against that of dense matrices, from 1e-12 to beyond 1."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedumm.aggregation.base import AggregationResult, ClientContribution
from fedumm.aggregation.error import aggregation_error
from support.lora_round import (
    RANK,
    SCALE,
    adapter,
    aggregate,
    array,
    clients,
    delivered,
    dense_mean,
    distance,
    without,
)


def error_of(
    begin: dict[str, torch.Tensor], parts: list[ClientContribution], delivery: AggregationResult, scale: float = SCALE
) -> float | None:
    return aggregation_error(begin, SCALE, parts, delivery.adapter, scale, delivery.change)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.floats(0.1, 100), st.floats(0.5, 64)), min_size=1, max_size=5),
    st.integers(1, 4),
    st.floats(0.1, 10),
    st.integers(0, 9),
    st.booleans(),
)
def test_is_that_of_dense_matrices(cases: list[tuple], rank: int, scale: float, q: int, changed: bool) -> None:
    parts = clients(*zip(*cases, strict=True))
    generator = torch.Generator().manual_seed(q)
    pair = (torch.randn(7, q, generator=generator), torch.randn(q, 20, generator=generator))
    result = AggregationResult(adapter(50, rank), {"wide": pair} if changed else {})
    expected = distance(delivered(result, scale), dense_mean(parts))
    assert error_of(adapter(0), parts, result, scale) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("method", ["flora", "fedex_lora"])
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_exact_methods_show_no_error(method: str, dtype: torch.dtype, most: float) -> None:
    begin, parts = adapter(0, dtype=dtype), clients([4] * 3, [3.0, 1.0, 7.0], [2.0, 5.0, 9.0], dtype)
    error = error_of(begin, parts, aggregate(method, begin, parts))
    assert error is not None
    assert error < most


def test_of_svd_is_the_root_of_the_energy_cut() -> None:
    begin, parts = adapter(0, dtype=torch.float64), clients([4] * 3, [3.0, 1.0, 7.0], [2.0, 5.0, 9.0], torch.float64)
    delivery = aggregate("svd", begin, parts)
    assert error_of(begin, parts, delivery) == pytest.approx(math.sqrt(delivery.report["energy_cut"]), rel=1e-10)


@pytest.mark.parametrize("size", [1e-3, 1e-7, 1e-11])
def test_tiny_errors_keep_their_digits(size: float) -> None:
    """One client's own factors and a known change by it."""
    begin, parts = adapter(0), clients([4], [1.0], [4 * SCALE])
    other = adapter(2, 2, torch.float64)
    left, right = other["tall.lora_B.weight"], other["tall.lora_A.weight"]
    known = size * np.linalg.norm(array(left) @ array(right))
    ideal = math.sqrt(sum((d**2).sum() for d in dense_mean(parts).values()))
    error = error_of(begin, parts, AggregationResult(dict(parts[0].adapter), {"tall": (size * left, right)}))
    assert error == pytest.approx(known / ideal, rel=1e-14 / size)


def test_factors_that_were_not_sent_and_modules_that_nobody_sent() -> None:
    begin = adapter(0, dtype=torch.float64)
    first, second = clients([4, 2], [1.0, 3.0], [6.0, 2.0], torch.float64)
    parts = [
        without(first, "wide.lora_A.weight", "wide.lora_B.weight", "tall.lora_B.weight"),
        without(second, "wide.lora_A.weight", "wide.lora_B.weight", "tall.lora_A.weight"),
    ]
    result = AggregationResult(adapter(9, dtype=torch.float64))
    mean = dense_mean([first, second], ["narrow", "same"])
    a, b = array(begin["tall.lora_A.weight"]), array(begin["tall.lora_B.weight"])
    products = (
        SCALE * b @ array(first.adapter["tall.lora_A.weight"]),
        second.scale * array(second.adapter["tall.lora_B.weight"]) @ a[:2],
    )
    mean["tall"] = (products[0] + 3 * products[1]) / 4
    assert error_of(begin, parts, result) == pytest.approx(distance(delivered(result), mean), rel=1e-13)


def test_a_prefix_that_the_client_was_given_counts_as_it_was_given() -> None:
    """Rank 2 and another alpha: the client was given B times SCALE / its scale, and so what the server has."""
    begin = adapter(0, dtype=torch.float64)
    sent = {name: t[:2] for name, t in begin.items() if "lora_A" in name}
    kept = {n: t[:2] if "lora_A" in n else t[:, :2] if "lora_B" in n else t for n, t in begin.items()}
    assert error_of(begin, [ClientContribution("a", sent, 1.0, 0.3)], AggregationResult(kept)) == pytest.approx(
        0, abs=1e-14
    )


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(4)))
def test_any_order_gives_the_same_bits(order: list[int]) -> None:
    parts = clients([1, RANK, 2, 3], [0.1, 1 / 3, 0.7, math.pi], [3.0, 8.0, 5.0, 1.0])
    result = AggregationResult(adapter(9))
    assert error_of(adapter(0), [parts[i] for i in order], result) == error_of(adapter(0), parts, result)


def test_of_nothing() -> None:
    begin, zero = adapter(0), {name: torch.zeros_like(t) for name, t in adapter(0).items()}
    untrained = [ClientContribution("a", zero, 1.0, SCALE)]
    assert error_of(begin, untrained, AggregationResult(zero)) == 0.0
    assert error_of(begin, untrained, AggregationResult(begin)) == math.inf
    assert error_of(begin, [], AggregationResult(begin)) == 0.0
    assert error_of({"head.bias": zero["head.bias"]}, untrained, AggregationResult(zero)) is None


def test_clients_that_cancel_leave_no_noise_to_divide_by() -> None:
    """B A and -(B G)(G^-1 A): the mean is 0 but for rounding, and so is what a server of zeros misses."""
    own, mixed = adapter(1), {}
    g = torch.randn(RANK, RANK, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for name, tensor in own.items():
        mixed[name] = torch.linalg.solve(g, tensor.double()) if "lora_A" in name else -tensor.double()
        mixed[name] = mixed[name] @ g if "lora_B" in name else mixed[name]
    parts = [ClientContribution("a", own, 1.0, SCALE), ClientContribution("b", mixed, 1.0, SCALE)]
    assert 0 < max(np.abs(d).max() for d in dense_mean(parts).values()) < 1e-13
    zero = {name: torch.zeros_like(t) for name, t in own.items()}
    assert error_of(zero, parts, AggregationResult(zero)) == 0.0
