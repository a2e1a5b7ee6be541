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
from fedumm.aggregation.base import ClientContribution
from fedumm.aggregation.methods.fedavg import FedAvg

# Factors of two layers, not square, of unequal ranks: LoRA's A is (r, in), B is (out, r).
SHAPES = {
    "0.lora_A.weight": (4, 7),
    "0.lora_B.weight": (5, 4),
    "1.lora_A.weight": (2, 3),
    "1.lora_B.weight": (11, 2),
    "head.bias": (6,),
}
WEIGHTS = [12.0, 5.0, 33.0, 1.0]


def client(seed: int, dtype: torch.dtype = torch.float32) -> AdapterState:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()}


def begun(updates: list[AdapterState]) -> FedAvg:
    """A round that starts at zero, on the tensors of any client."""
    mean = FedAvg()
    mean.begin({name: torch.zeros_like(t) for update in updates for name, t in update.items()}, scale=2.0, seed=0)
    return mean


def averaged(updates: list[AdapterState], weights: list[float]) -> AdapterState:
    mean = begun(updates)
    for update, weight in zip(updates, weights, strict=True):
        mean.add(ClientContribution("site", update, weight))
    return mean.finish().adapter


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
    product = mean["0.lora_B.weight"] @ mean["0.lora_A.weight"]
    ideal = sum(w * u["0.lora_B.weight"] @ u["0.lora_A.weight"] for w, u in zip(WEIGHTS, updates, strict=True)) / sum(
        WEIGHTS
    )
    assert product.shape == ideal.shape == (5, 7)
    assert torch.linalg.norm(product - ideal) > 0.1 * torch.linalg.norm(ideal)


def test_sums_in_float64_so_that_small_updates_are_not_swallowed() -> None:
    """In float32, 2^24 + 1 is 2^24: the 1,000 ones would vanish."""
    big, one = {"a": torch.tensor([2.0**24])}, {"a": torch.tensor([1.0])}
    mean = averaged([big, *[one] * 1000], [1.0] * 1001)
    assert mean["a"].item() == np.float32((2.0**24 + 1000) / 1001)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weights", [WEIGHTS, [0.1, 1 / 3, 0.7, math.pi], [1e9, 1.0, 1e-9, 7.0]])
def test_any_order_gives_the_same_bits(dtype: torch.dtype, weights: list[float]) -> None:
    updates = [client(seed, dtype) for seed in range(4)]
    results = [
        averaged([updates[i] for i in order], [weights[i] for i in order]) for order in itertools.permutations(range(4))
    ]
    assert all(torch.equal(result[name], results[0][name]) for result in results for name in SHAPES)


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


def test_updates_start_and_results_are_left_alone_and_not_held_on_to() -> None:
    start, update = {"a": torch.tensor([7.0]), "b": torch.tensor([5.0])}, {"a": torch.tensor([3.0])}
    mean = FedAvg()
    mean.begin(start, scale=1.0, seed=0)
    mean.add(ClientContribution("site", update, 3))
    assert (start["a"].item(), update["a"].item()) == (7.0, 3.0)
    for tensor in (*start.values(), *update.values(), *mean.finish().adapter.values()):
        tensor.zero_()
    assert {name: t.item() for name, t in mean.finish().adapter.items()} == {"a": 3.0, "b": 5.0}


def test_a_new_round_forgets_the_last_one() -> None:
    mean = begun([{"a": torch.zeros(1)}])
    mean.add(ClientContribution("site", {"a": torch.tensor([100.0])}, 9))
    mean.begin({"a": torch.zeros(1), "b": torch.ones(1)}, scale=1.0, seed=0)
    mean.add(ClientContribution("site", {"a": torch.tensor([1.0])}, 1))
    assert {name: t.item() for name, t in mean.finish().adapter.items()} == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize("weight", [0, 0.0, -1, math.nan, math.inf, -math.inf])
def test_a_weight_that_is_no_positive_number_is_refused_and_changes_nothing(weight: float) -> None:
    mean = begun([{"a": torch.zeros(1)}])
    mean.add(ClientContribution("site", {"a": torch.tensor([2.0])}, 1))
    with pytest.raises(ValueError, match=f"weight must be positive.*, not {weight}"):
        mean.add(ClientContribution("site", {"a": torch.tensor([100.0])}, weight))
    assert mean.finish().adapter["a"].tolist() == [2.0]


BAD_UPDATES = {
    "it holds no tensor": {},
    r"1 unknown tensor\(s\), among them c": {"a": torch.ones(1), "c": torch.ones(1)},
    r"b is float32\[1\], expected float32\[2\]": {"a": torch.ones(1), "b": torch.ones(1)},
    "b holds NaN or infinite values": {"a": torch.ones(1), "b": torch.tensor([1.0, math.nan])},
}


@pytest.mark.parametrize("problem", BAD_UPDATES)
def test_a_bad_update_is_refused_and_none_of_it_is_taken_in(problem: str) -> None:
    mean = begun([{"a": torch.zeros(1), "b": torch.zeros(2)}])
    mean.add(ClientContribution("site", {"a": torch.tensor([2.0]), "b": torch.tensor([3.0, 4.0])}, 1))
    with pytest.raises(ValueError, match=problem):
        mean.add(ClientContribution("bad", BAD_UPDATES[problem], 1))
    assert {name: t.tolist() for name, t in mean.finish().adapter.items()} == {"a": [2.0], "b": [3.0, 4.0]}


@pytest.mark.parametrize(
    ("update", "weight", "problem"),
    [
        ({"a": torch.zeros(1), "b": torch.zeros(1)}, 1e300, r"weight 1e\+300 is too large"),
        ({"a": torch.zeros(1), "b": torch.full((1,), 1e30)}, 1e280, "b holds NaN, infinite or too large values"),
    ],
)
def test_no_weight_overflows_the_sums(update: AdapterState, weight: float, problem: str) -> None:
    mean = begun([update])
    mean.add(ClientContribution("site", {"a": torch.tensor([2.0]), "b": torch.tensor([3.0])}, 1))
    with pytest.raises(ValueError, match=problem):
        mean.add(ClientContribution("bad", update, weight))
    assert {name: t.item() for name, t in mean.finish().adapter.items()} == {"a": 2.0, "b": 3.0}


def test_without_updates_there_is_no_mean() -> None:
    with pytest.raises(ValueError, match="no update to average"):
        begun([client(0)]).finish()


@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from(sorted(SHAPES)), min_size=1), st.floats(0.1, 100)), min_size=1, max_size=6
    )
)
@settings(deadline=None)
def test_a_tensor_is_the_mean_over_those_who_sent_it_or_stays_as_it_was(sent: list[tuple[set[str], float]]) -> None:
    updates = [{name: client(seed)[name] for name in names} for seed, (names, _) in enumerate(sent)]
    start = client(99)
    aggregator = FedAvg()
    aggregator.begin(start, scale=1.0, seed=0)
    for update, (_, weight) in zip(updates, sent, strict=True):
        aggregator.add(ClientContribution("site", update, weight))
    for name, tensor in aggregator.finish().adapter.items():
        own = [(update, weight) for update, (_, weight) in zip(updates, sent, strict=True) if name in update]
        if own:
            expected = dense_mean([u for u, _ in own], [w for _, w in own], name)
            np.testing.assert_allclose(tensor.double().numpy(), expected, rtol=1e-6, atol=1e-7)
        else:
            assert torch.equal(tensor, start[name])
