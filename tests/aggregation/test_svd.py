"""The best rank-R adapter of the dense mean: against numpy's decomposition of it, for every client's rank."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedumm.adapters import spec_of
from fedumm.adapters.factors import at_rank
from fedumm.aggregation.base import ClientContribution
from support.lora_round import (
    RANK,
    SCALE,
    SHAPES,
    adapter,
    aggregate,
    array,
    best_of_rank,
    clients,
    delivered,
    dense_mean,
    distance,
    product,
    same_bits,
    without,
)

UNEQUAL = ([1, 4, 2, 3], [12.0, 5.0, 33.0, 1.0], [3.0, 8.0, 5.0, 1.0])


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-7), (torch.bfloat16, 1e-2)]
)
@pytest.mark.parametrize("case", [UNEQUAL, ([4] * 3, [1.0] * 3, [8.0] * 3), ([4], [7.0], [2.0]), ([2], [1.0], [6.0])])
def test_is_the_best_of_its_rank_for_the_dense_mean(case: tuple, dtype: torch.dtype, tolerance: float) -> None:
    begin, parts = adapter(0, dtype=dtype), clients(*case, dtype=dtype)
    delivery = aggregate("svd", begin, parts)
    ideal = dense_mean(parts)
    assert distance(delivered(delivery), {m: best_of_rank(d, RANK) for m, d in ideal.items()}) < tolerance
    values = [np.linalg.svd(d, compute_uv=False) ** 2 for d in ideal.values()]
    cut = sum(v[RANK:].sum() for v in values) / sum(v.sum() for v in values)
    assert delivery.report["energy_cut"] == pytest.approx(cut, abs=1e-14)
    assert spec_of(delivery.adapter) == spec_of(begin)
    assert list(delivery.adapter) == list(begin)
    assert not delivery.change


def test_worked_by_hand() -> None:
    """One adds 2 at (0, 0) with share 3/4, the other 2 * 4 at (1, 1) with share 1/4: 1.5 and 2 on the diagonal.

    Of rank 1 the 2 stays, and 1.5^2 / (1.5^2 + 2^2) = 0.36 is cut. At scale 0.5 it is 0.5 * 2 * 2.
    """
    begin = {"m.lora_A.weight": torch.zeros(1, 3), "m.lora_B.weight": torch.zeros(2, 1)}
    one = {"m.lora_A.weight": torch.tensor([[2.0, 0, 0]]), "m.lora_B.weight": torch.tensor([[1.0], [0]])}
    two = {"m.lora_A.weight": torch.tensor([[0, 4.0, 0]]), "m.lora_B.weight": torch.tensor([[0.0], [1]])}
    delivery = aggregate(
        "svd", begin, [ClientContribution("a", one, 3), ClientContribution("b", two, 1, 2.0)], scale=0.5
    )
    assert delivery.adapter["m.lora_A.weight"].tolist() == [[0, pytest.approx(2), 0]]
    assert delivery.adapter["m.lora_B.weight"].tolist() == [[0], [pytest.approx(2)]]
    assert delivery.report == {"energy_cut": pytest.approx(0.36)}


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.floats(0.1, 100), st.floats(0.5, 64)), min_size=1, max_size=6),
    st.integers(1, 4),
    st.floats(0.1, 10),
)
def test_a_client_of_any_rank_gets_the_best_of_its_rank(cases: list[tuple], rank: int, own_scale: float) -> None:
    """Cut as the server cuts it, with another alpha: the error is that of numpy's best, the tail of the spectrum."""
    parts = clients(*zip(*cases, strict=True), dtype=torch.float64)
    whole = aggregate("svd", adapter(0, dtype=torch.float64), parts).adapter
    given_to = at_rank(whole, rank, SCALE / own_scale)
    for module, ideal in dense_mean(parts).items():
        tail = np.linalg.svd(ideal, compute_uv=False)[rank:]
        error = np.linalg.norm(product(given_to, module, own_scale) - ideal)
        assert error == pytest.approx(np.sqrt((tail**2).sum()), abs=1e-12 * np.linalg.norm(ideal))


def test_factors_are_balanced() -> None:
    state = aggregate("svd", adapter(0), clients(*UNEQUAL)).adapter
    for module in ("wide", "tall"):
        a, b = array(state[f"{module}.lora_A.weight"]), array(state[f"{module}.lora_B.weight"])
        np.testing.assert_allclose(a @ a.T, b.T @ b, atol=1e-5)
        assert (np.diff(np.diag(a @ a.T)) < 0).all()


def test_directions_that_nobody_used_can_be_trained_on() -> None:
    """Zeros in both factors would get no gradient ever again: a round of clients of rank 1 would cut all to 1."""
    begin, parts = adapter(0), clients([1], [3.0], [2.0])
    state = aggregate("svd", begin, parts).adapter
    for module, (_, into) in SHAPES.items():
        a, b = state[f"{module}.lora_A.weight"], state[f"{module}.lora_B.weight"]
        assert (b[:, 1:] == 0).all()
        assert (b[:, 0] != 0).all()
        assert (a.abs().sum(dim=1) > 0).all()
        assert (a[1:].abs() <= into**-0.5).all()
    assert distance({m: product(state, m, SCALE) for m in SHAPES}, dense_mean(parts)) < 1e-6


def test_an_adapter_that_adds_nothing_yet_can_be_trained_on() -> None:
    untrained = {n: torch.zeros_like(t) if "lora_B" in n else t for n, t in adapter(0).items()}
    delivery = aggregate("svd", untrained, [ClientContribution("a", untrained, 1.0, SCALE)])
    assert delivery.report == {"energy_cut": 0.0}
    for name, tensor in delivery.adapter.items():
        assert bool(tensor.any()) != ("lora_B" in name)


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(4)))
def test_any_order_gives_the_same_bits(order: list[int]) -> None:
    begin, parts = adapter(0), clients(*UNEQUAL)
    assert same_bits(aggregate("svd", begin, [parts[i] for i in order]), aggregate("svd", begin, parts))


def test_what_was_not_sent_is_as_the_round_began() -> None:
    """Client 1 of rank 2 trained B alone, client 2 A alone; nobody sent ``wide``, and only client 3 ``tall``."""
    begin = adapter(0, dtype=torch.float64)
    first, second, third = clients([2, 4, 3], [1.0, 2.0, 5.0], [8.0, 4.0, 9.0], dtype=torch.float64)
    parts = [
        without(first, "wide.lora_A.weight", "wide.lora_B.weight", "tall.lora_B.weight", "lora_A.weight"),
        without(second, "wide.lora_A.weight", "tall.lora_A.weight", "lora_B.weight", "head.bias"),
        without(third, "wide.lora_A.weight", "wide.lora_B.weight"),
    ]
    delivery = aggregate("svd", begin, parts)
    assert all(torch.equal(delivery.adapter[f"wide.lora_{f}.weight"], begin[f"wide.lora_{f}.weight"]) for f in "AB")
    expected = {"tall": product(third.adapter, "tall", third.scale)}
    for module in ("narrow", "same"):
        a, b = array(begin[f"{module}.lora_A.weight"]), array(begin[f"{module}.lora_B.weight"])
        b_first, a_second = (
            array(first.adapter[f"{module}.lora_B.weight"]),
            array(second.adapter[f"{module}.lora_A.weight"]),
        )
        mean = (
            first.scale * b_first @ a[:2] + 2 * SCALE * b @ a_second + 5 * product(third.adapter, module, third.scale)
        )
        expected[module] = mean / 8
    best = {m: best_of_rank(d, RANK) for m, d in expected.items()}
    assert distance({m: product(delivery.adapter, m, SCALE) for m in best}, best) < 1e-13
    bias = (first.adapter["head.bias"] + 5 * third.adapter["head.bias"]) / 6
    torch.testing.assert_close(delivery.adapter["head.bias"], bias, rtol=1e-14, atol=0)


def test_rounds_are_independent() -> None:
    from fedumm.aggregation.methods.svd import Svd

    method, parts = Svd(), clients(*UNEQUAL)
    for seed, chosen in ((5, parts[:2]), (0, parts[1:])):
        method.begin(adapter(seed), SCALE, seed)
        for part in chosen:
            method.add(part)
        last = method.finish()
    assert same_bits(last, aggregate("svd", adapter(0), parts[1:]))
    assert method.state() == {}


BAD = {
    "weight": (
        lambda c: ClientContribution(c.client, c.adapter, 0.0, c.scale),
        "weight must be positive and finite, not 0",
    ),
    "nan weight": (lambda c: ClientContribution(c.client, c.adapter, float("nan"), 1.0), "weight must be positive"),
    "scale": (
        lambda c: ClientContribution(c.client, c.adapter, 1.0, float("inf")),
        "scale must be positive and finite",
    ),
    "key": (
        lambda c: ClientContribution(c.client, {"x.lora_A.weight": torch.zeros(1, 1)}, 1.0),
        "unknown.* x.lora_A.weight",
    ),
    "nan": (
        lambda c: ClientContribution(c.client, {"head.bias": torch.full((6,), torch.nan)}, 1.0),
        "head.bias holds NaN",
    ),
    "width": (
        lambda c: ClientContribution(c.client, {"wide.lora_A.weight": torch.ones(2, 7)}, 1.0),
        r"float32\[2, 7\], expected",
    ),
    "rank": (
        lambda c: ClientContribution(c.client, {"wide.lora_B.weight": torch.ones(7, 5)}, 1.0),
        r"float32\[7, 5\], expected",
    ),
    "plain": (
        lambda c: ClientContribution(c.client, {"head.bias": torch.ones(1)}, 1.0),
        r"head.bias is float32\[1\], expected float32\[6\]",
    ),
    "ranks": (
        lambda c: ClientContribution(c.client, {**c.adapter, "wide.lora_A.weight": torch.ones(1, 20)}, 1.0),
        "wide.lora_A.weight and wide.lora_B.weight are of different ranks",
    ),
}


@pytest.mark.parametrize("method", ["svd", "flora", "fedex_lora"])
@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_taken_in_is_refused_and_changes_nothing(method: str, case: str) -> None:
    from fedumm.aggregation import get_aggregator

    spoil, message = BAD[case]
    aggregator, parts = get_aggregator(method)(), clients([4] * 3, [1.0, 2.0, 3.0], [4.0] * 3)
    with pytest.raises(ValueError, match="no update"):
        aggregator.finish()
    aggregator.begin(adapter(0), SCALE, 0)
    aggregator.add(parts[0])
    with pytest.raises(
        ValueError, match=f"site-2: .*{message}" if case != "ranks" or method != "fedex_lora" else "site-2"
    ):
        aggregator.add(spoil(parts[1]))
    with pytest.raises(ValueError, match="site-1: added twice"):
        aggregator.add(parts[0])
    aggregator.add(parts[2])
    assert same_bits(aggregator.finish(), aggregate(method, adapter(0), [parts[0], parts[2]]))


def test_the_updates_are_left_alone() -> None:
    for method, begin in itertools.product(["svd", "flora", "fedex_lora"], [adapter(0)]):
        parts = clients([4, 4], [1.0, 2.0], [4.0, 2.0])
        delivery = aggregate(method, begin, parts)
        for tensor in itertools.chain(delivery.adapter.values(), *delivery.change.values()):
            tensor.fill_(7.0)
        assert same_bits(
            aggregate(method, adapter(0), parts), aggregate(method, begin, clients([4, 4], [1.0, 2.0], [4.0, 2.0]))
        )
