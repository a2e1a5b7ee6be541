"""FedAvg: the weighted mean, computed independently; in any order, in any grouping, in the tensors' own dtype."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedumm.adapters import AdapterState
from fedumm.aggregation import FedAvg

# Factors of two layers, not square, of unequal ranks: LoRA's A is (r, in), B is (out, r).
SHAPES = {"0.lora_A": (4, 7), "0.lora_B": (5, 4), "1.lora_A": (2, 3), "1.lora_B": (11, 2), "head.bias": (6,)}
WEIGHTS = [12.0, 5.0, 33.0, 1.0]


def client(seed: int, dtype: torch.dtype = torch.float32) -> AdapterState:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()}


def averaged(updates: list[AdapterState], weights: list[float]) -> AdapterState:
    mean = FedAvg()
    for update, weight in zip(updates, weights, strict=True):
        mean.add(update, weight)
    return mean.finish()


def dense_mean(updates: list[AdapterState], weights: list[float], name: str) -> np.ndarray:
    """``sum_k p_k x_k`` with the shares p_k on a stack in float64: another order of operations than FedAvg's."""
    shares = np.array([float(Fraction(w) / sum(map(Fraction, weights))) for w in weights])
    return np.tensordot(shares, np.stack([u[name].to(torch.float64).numpy() for u in updates]), axes=1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("weights", [WEIGHTS, [1.0] * 4, [0.1, 0.2, 0.3, 0.4], [1e9, 1.0, 1e-9, 7.0]])
def test_is_the_weighted_mean_of_each_tensor_in_its_own_dtype(dtype: torch.dtype, weights: list[float]) -> None:
    updates = [client(seed, dtype) for seed in range(4)]
    mean = averaged(updates, weights)
    assert list(mean) == list(SHAPES)
    for name, tensor in mean.items():
        expected = torch.from_numpy(dense_mean(updates, weights, name))
        assert tensor.dtype == dtype
        # One rounding to dtype: half a unit in the last place (or of float16's denormals), and float64's own few.
        atol = 2.0**-25 if dtype == torch.float16 else 1e-15
        torch.testing.assert_close(tensor.double(), expected, rtol=0.501 * torch.finfo(dtype).eps + 1e-14, atol=atol)


def test_worked_by_hand() -> None:
    """(1 * [1, -2] + 3 * [5, 2]) / 4 = [4, 1]."""
    mean = averaged([{"a": torch.tensor([1.0, -2.0])}, {"a": torch.tensor([5.0, 2.0])}], [1, 3])
    assert mean["a"].tolist() == [4.0, 1.0]


def test_dtypes_may_differ_between_tensors() -> None:
    update = {"a": torch.ones(2, dtype=torch.bfloat16), "b": torch.ones(3), "c": torch.ones(1, dtype=torch.float64)}
    assert {name: t.dtype for name, t in averaged([update, update], [1, 2]).items()} == {
        name: t.dtype for name, t in update.items()
    }


def test_averages_factors_not_products() -> None:
    """What FedIT does, and why its result is not the ideal one: mean(B) mean(A) is not mean(B A)."""
    updates = [client(seed, torch.float64) for seed in range(4)]
    mean = averaged(updates, WEIGHTS)
    product = mean["0.lora_B"] @ mean["0.lora_A"]
    ideal = sum(w * u["0.lora_B"] @ u["0.lora_A"] for w, u in zip(WEIGHTS, updates, strict=True)) / sum(WEIGHTS)
    assert product.shape == ideal.shape == (5, 7)
    assert torch.linalg.norm(product - ideal) > 0.1 * torch.linalg.norm(ideal)


def test_sums_in_float64_so_that_small_updates_are_not_swallowed() -> None:
    """In float32, 2^24 + 1 is 2^24: the 1,000 ones would vanish."""
    big, one = {"a": torch.tensor([2.0**24])}, {"a": torch.tensor([1.0])}
    mean = averaged([big, *[one] * 1000], [1.0] * 1001)
    assert mean["a"].item() == np.float32((2.0**24 + 1000) / 1001)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_with_sample_counts_as_weights_any_order_gives_the_same_bits(dtype: torch.dtype) -> None:
    """Values of equal exponent range times small integers are exact in float64, and so are their sums.

    Multiples of 2^-12 below 2^3 times weights below 2^6: at most 21 bits of 53.
    """
    updates = [{n: (t.clamp(-7, 7) * 4096).round() / 4096 for n, t in client(s).items()} for s in range(4)]
    rounded = [{name: t.to(dtype) for name, t in update.items()} for update in updates]
    results = [
        averaged([rounded[i] for i in order], [WEIGHTS[i] for i in order]) for order in itertools.permutations(range(4))
    ]
    assert all(torch.equal(result[name], results[0][name]) for result in results for name in SHAPES)


def test_with_any_weights_the_order_changes_at_most_the_last_bit() -> None:
    updates, weights = [client(seed) for seed in range(4)], [0.1, 1 / 3, 0.7, math.pi]
    results = [
        averaged([updates[i] for i in order], [weights[i] for i in order]) for order in itertools.permutations(range(4))
    ]
    for result, name in itertools.product(results, SHAPES):
        torch.testing.assert_close(result[name], results[0][name], rtol=torch.finfo(torch.float32).eps, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=6))
def test_a_client_may_be_split_into_parts_of_its_weight(parts: list[int]) -> None:
    """The same update sent in parts, its weight shared out, counts as sent once: bit for bit, as weights are whole."""
    whole, other = {"a": torch.tensor([1.25, -3.5, 1e-3])}, {"a": torch.tensor([0.5, 2.0, 7.0])}
    expected = averaged([whole, other], [float(sum(parts)), 17.0])
    split = averaged([*[whole] * len(parts), other], [*map(float, parts), 17.0])
    assert torch.equal(split["a"], expected["a"])


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 10**6), st.integers(0, 1000))
def test_one_update_alone_is_returned_to_the_bit(weight: int, seed: int) -> None:
    update = client(seed)
    mean = averaged([update], [float(weight)])
    assert all(torch.equal(mean[name], update[name]) for name in SHAPES)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), st.integers(1, 10**6)), min_size=1, max_size=8))
def test_the_mean_lies_between_the_extremes_and_ignores_the_scale_of_weights(pairs: list[tuple[float, int]]) -> None:
    updates = [{"a": torch.tensor([value])} for value, _ in pairs]
    mean = averaged(updates, [float(w) for _, w in pairs])["a"].item()
    scaled = averaged(updates, [w / 1024 for _, w in pairs])["a"].item()
    assert min(v for v, _ in pairs) <= mean <= max(v for v, _ in pairs)
    assert scaled == mean  # a power of two is exact


def test_the_updates_are_left_alone_and_not_held_on_to() -> None:
    update = client(0)
    kept = {name: t.clone() for name, t in update.items()}
    mean = FedAvg()
    mean.add(update, 3)
    first = mean.finish()
    assert all(torch.equal(update[name], kept[name]) for name in SHAPES)
    for tensor in update.values():
        tensor.zero_()
    assert all(torch.equal(mean.finish()[name], kept[name]) for name in SHAPES)
    for tensor in first.values():
        tensor.zero_()
    assert all(torch.equal(mean.finish()[name], kept[name]) for name in SHAPES)


def test_two_averages_share_no_state() -> None:
    first, second = FedAvg(), FedAvg()
    first.add({"a": torch.tensor([1.0])}, 1)
    second.add({"b": torch.tensor([5.0])}, 1)
    assert list(first.finish()) == ["a"]
    assert second.finish()["b"].tolist() == [5.0]


@pytest.mark.parametrize("weight", [0, 0.0, -1, math.nan, math.inf, -math.inf])
def test_a_weight_that_is_no_positive_number_is_refused_and_changes_nothing(weight: float) -> None:
    mean = FedAvg()
    mean.add({"a": torch.tensor([2.0])}, 1)
    with pytest.raises(ValueError, match=f"weight must be positive.*, not {weight}"):
        mean.add({"a": torch.tensor([100.0])}, weight)
    assert mean.finish()["a"].tolist() == [2.0]


def test_without_updates_there_is_no_mean() -> None:
    with pytest.raises(ValueError, match="no update to average"):
        FedAvg().finish()


@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from(sorted(SHAPES)), min_size=1), st.floats(0.1, 100)), min_size=1, max_size=6
    )
)
@settings(deadline=None)
def test_a_tensor_is_the_mean_over_those_who_sent_it(sent: list[tuple[set[str], float]]) -> None:
    updates = [{name: client(seed)[name] for name in names} for seed, (names, _) in enumerate(sent)]
    mean = averaged(updates, [weight for _, weight in sent])
    assert mean.keys() == set.union(*(names for names, _ in sent))
    for name, tensor in mean.items():
        own = [(update, weight) for update, (_, weight) in zip(updates, sent, strict=True) if name in update]
        expected = dense_mean([u for u, _ in own], [w for _, w in own], name)
        np.testing.assert_allclose(tensor.double().numpy(), expected, rtol=1e-6, atol=1e-7)
