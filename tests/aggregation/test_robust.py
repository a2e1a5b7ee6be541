"""Median, trimmed mean and Krum: hand-worked values, brute force, and what bad clients can do to them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedumm.adapters import AdapterState
from fedumm.aggregation.base import AggregationResult, ClientContribution
from fedumm.aggregation.methods.krum import Krum
from fedumm.aggregation.methods.median import Median
from fedumm.aggregation.methods.trimmed_mean import TrimmedMean
from fedumm.aggregation.robust import RobustAggregator
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.run_options import from_mapping

SHAPES = {"0.lora_A.weight": (2, 5), "0.lora_B.weight": (3, 2), "head.bias": (4,)}
METHODS: list[type[RobustAggregator]] = [Median, TrimmedMean, Krum]


def client(seed: int) -> AdapterState:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def delivered(
    aggregator: RobustAggregator, updates: list[AdapterState], start: AdapterState | None = None
) -> AggregationResult:
    aggregator.begin(start or {n: torch.zeros_like(t) for n, t in updates[0].items()}, scale=2.0, seed=0)
    for k, update in enumerate(updates):
        aggregator.add(ClientContribution(f"site-{k}", update, weight=10.0**k))
    return aggregator.finish()


def krum(f: int = 0, keep: int = 1) -> Krum:
    return Krum(Krum.Options(krum_f=f, krum_keep=keep))


def trimmed(ratio: float) -> TrimmedMean:
    return TrimmedMean(TrimmedMean.Options(trim_ratio=ratio))


def of_numbers(aggregator: RobustAggregator, values: list[float]) -> float:
    return delivered(aggregator, [{"a": torch.tensor([value])} for value in values]).adapter["a"].item()


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3.0], 3.0), ([3.0, 7.0], 5.0), ([9.0, -1.0, 2.0], 2.0), ([1e6, 1.0, 4.0, 2.0], 3.0), ([5, 1, 4, 2, 3], 3.0)],
)
def test_median_by_hand(values: list[float], expected: float) -> None:
    assert of_numbers(Median(), values) == expected


@pytest.mark.parametrize(
    ("ratio", "values", "expected"),
    [
        (0.2, [3.0], 3.0),
        (0.2, [3.0, 7.0], 5.0),
        (0.2, [9.0, -1.0, 2.0], 2.0),  # at least one
        (0.2, [1e6, 1.0, 4.0, 2.0], 3.0),
        (0.2, [5.0, 100.0, 1.0, 3.0, 1.0], 3.0),
        (0.4, [5.0, 100.0, 1.0, 3.5, 1.0], 3.5),
        (0.0, [9.0, 0.0, 0.0], 3.0),
        (0.49, [9.0, 0.0, 1.0, 3.0], 2.0),
    ],
)
def test_trimmed_mean_by_hand(ratio: float, values: list[float], expected: float) -> None:
    assert of_numbers(trimmed(ratio), values) == expected


@pytest.mark.parametrize(
    ("ratio", "count", "cut"),
    [(0.2, 2, 0), (0.2, 3, 1), (0.2, 9, 1), (0.2, 10, 2), (0.29, 100, 29), (0.1, 30, 3), (0.49, 100, 49), (0.0, 9, 0)],
)
def test_how_many_values_are_cut_at_each_end(ratio: float, count: int, cut: int) -> None:
    assert trimmed(ratio).cut(count) == cut


@pytest.mark.parametrize("count", range(1, 12))
def test_median_and_trimmed_mean_of_tensors(count: int) -> None:
    updates = [client(seed) for seed in range(count)]
    middle, inner_mean = delivered(Median(), updates).adapter, delivered(trimmed(0.25), updates).adapter
    cut = max(count // 4, int(count > 2))
    for name in SHAPES:
        stack = np.stack([u[name].double().numpy() for u in updates])
        np.testing.assert_allclose(middle[name].numpy(), np.median(stack, axis=0), rtol=1e-6)
        inner = np.sort(stack, axis=0)[cut : count - cut]
        np.testing.assert_allclose(inner_mean[name].numpy(), inner.mean(axis=0), rtol=1e-5, atol=1e-7)


def krum_by_definition(updates: list[AdapterState], start: AdapterState, f: int, keep: int) -> list[int]:
    """Indices of the winners, by Blanchard et al.'s definition on whole vectors."""
    vectors = [np.concatenate([u.get(n, start[n]).double().numpy().ravel() for n in SHAPES]) for u in updates]
    scores = []
    for i, own in enumerate(vectors):
        distances = sorted(float(((own - other) ** 2).sum()) for j, other in enumerate(vectors) if j != i)
        scores.append(sum(distances[: len(updates) - f - 2]))
    return sorted(range(len(updates)), key=lambda i: (scores[i], i))[:keep]


@pytest.mark.parametrize(("count", "f", "keep"), [(3, 0, 1), (5, 1, 1), (7, 2, 1), (7, 1, 1), (7, 2, 3), (9, 3, 6)])
def test_krum_by_its_definition(count: int, f: int, keep: int) -> None:
    """Some clients leave a tensor out: it is as the round began, for distances and in the mean."""
    start = client(99)
    for seed in range(20):
        updates = [client(100 * seed + k) for k in range(count)]
        del updates[0]["head.bias"], updates[2]["0.lora_B.weight"]
        result = delivered(krum(f, keep), updates, start)
        winners = [updates[i] for i in krum_by_definition(updates, start, f, keep)]
        assert result.report == {"krum_f": f, "krum_kept": keep}
        for name in SHAPES:
            sent = [u.get(name, start[name]).double().numpy() for u in winners]
            np.testing.assert_allclose(result.adapter[name].numpy(), np.mean(sent, axis=0), rtol=1e-5, atol=1e-7)


def test_krum_by_hand() -> None:
    """Of 0, 1, 3, 3.5 and 100 with f = 1, scores are 10, 5, 4.25, 6.5 and 18721.25 (two neighbours each)."""
    assert of_numbers(krum(1), [0.0, 1.0, 3.0, 3.5, 100.0]) == 3.0
    assert of_numbers(krum(1, 2), [0.0, 1.0, 3.0, 3.5, 100.0]) == 2.0
    assert of_numbers(krum(1, 3), [0.0, 1.0, 3.0, 3.5, 100.0]) == 2.5


@pytest.mark.parametrize(
    ("count", "f", "keep", "used_f", "kept"),
    [(1, 0, 1, 0, 1), (2, 3, 1, 0, 2), (3, 0, 9, 0, 3), (5, 0, 9, 1, 4), (10, 0, 1, 3, 1), (10, 9, 2, 3, 2)],
)
def test_krum_assumes_no_more_bad_clients_than_there_can_be(
    count: int, f: int, keep: int, used_f: int, kept: int
) -> None:
    report = delivered(krum(f, keep), [client(seed) for seed in range(count)]).report
    assert report == {"krum_f": used_f, "krum_kept": kept}


def test_of_equal_scores_the_first_names_win_whoever_comes_first() -> None:
    """Of 0, 1, 2 and 3, with two neighbours each, 1 and 2 score 2, the others 5."""
    values = {"site-a": 0.0, "site-b": 1.0, "site-c": 2.0, "site-d": 3.0}
    for order in itertools.permutations(values):
        aggregator = krum()
        aggregator.begin({"a": torch.zeros(1)}, scale=1.0, seed=0)
        for name in order:
            aggregator.add(ClientContribution(name, {"a": torch.tensor([values[name]])}, 1))
        assert aggregator.finish().adapter["a"].item() == 1.0


def test_multi_krum_gives_the_same_bits_in_any_order() -> None:
    """A mean of float64 values that rounding would tell apart."""
    updates = {f"site-{k}": {"a": client(k)["0.lora_A.weight"].double() / 3} for k in range(4)}
    results = []
    for order in itertools.permutations(updates):
        aggregator = krum(keep=4)
        aggregator.begin({"a": torch.zeros(2, 5, dtype=torch.float64)}, scale=1.0, seed=0)
        for name in order:
            aggregator.add(ClientContribution(name, updates[name], 1))
        results.append(aggregator.finish().adapter["a"])
    assert all(torch.equal(result, results[0]) for result in results)


def test_krum_averages_one_or_two_clients() -> None:
    assert of_numbers(Krum(), [3.0]) == 3.0
    assert of_numbers(Krum(), [3.0, 7.0]) == 5.0


def test_krum_tells_updates_apart_that_differ_little() -> None:
    """Distances of 1e-4 between values of 1e4: by products instead of differences they would drown."""
    base = {"a": torch.full((64,), 1e4, dtype=torch.float64)}
    updates = [{"a": base["a"] + offset} for offset in (5e-4, 1e-4, 0.0, 3e-4, 1e-2)]
    assert torch.equal(delivered(krum(1), updates).adapter["a"], updates[1]["a"])


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(-10, 10, width=32), min_size=5, max_size=9),
    st.floats(-(2.0**120), 2.0**120, width=32),
    st.data(),
)
def test_one_bad_client_cannot_move_an_entry_beyond_the_good_ones(
    good: list[float], bad: float, data: st.DataObject
) -> None:
    values = data.draw(st.permutations([*good, bad]))
    for aggregator in (Median(), TrimmedMean()):
        assert min(good) <= of_numbers(aggregator, values) <= max(good)


@pytest.mark.parametrize("method", METHODS)
def test_huge_updates_of_the_assumed_number_of_clients_leave_no_trace(method: type[RobustAggregator]) -> None:
    """Eight good clients near 1, three bad ones of 1e6 in different directions."""
    good = [{n: 1 + 0.01 * t for n, t in client(seed).items()} for seed in range(8)]
    bad = [{n: 1e6 * t for n, t in client(seed).items()} for seed in range(50, 53)]
    aggregator = trimmed(0.3) if method is TrimmedMean else method()
    for place in range(len(good) + 1):
        for tensor in delivered(aggregator, [*good[:place], *bad, *good[place:]]).adapter.values():
            assert (tensor - 1).abs().max() < 0.1


@pytest.mark.parametrize("method", METHODS)
def test_what_the_round_is_made_of(method: type[RobustAggregator]) -> None:
    """Updates are copied, a client counts once, what nobody sent stays, a new round forgets the last."""
    aggregator, start = method(), {"a": torch.tensor([7.0]), "b": torch.tensor([5.0])}
    assert not aggregator.linear
    aggregator.begin(start, scale=1.0, seed=0)
    aggregator.add(ClientContribution("site-9", {"a": torch.tensor([1e9])}, 1))
    aggregator.begin(start, scale=1.0, seed=0)
    with pytest.raises(ValueError, match="no update to aggregate"):
        aggregator.finish()
    update = {"a": torch.tensor([3.0])}
    aggregator.add(ClientContribution("site-1", update, 1))
    with pytest.raises(ValueError, match="site-1 has sent an update already"):
        aggregator.add(ClientContribution("site-1", {"a": torch.tensor([1e9])}, 1))
    with pytest.raises(ValueError, match="a holds NaN"):
        aggregator.add(ClientContribution("site-2", {"a": torch.tensor([torch.nan])}, 1))
    with pytest.raises(ValueError, match="weight must be positive"):
        aggregator.add(ClientContribution("site-2", update, 0))
    for tensor in (*start.values(), *update.values(), *aggregator.finish().adapter.values()):
        tensor.zero_()
    assert {name: t.item() for name, t in aggregator.finish().adapter.items()} == {"a": 3.0, "b": 5.0}


def test_something_is_always_left_to_average() -> None:
    aggregator = trimmed(0.4999999999)
    for count in range(1, 12):
        assert 2 * aggregator.cut(count) < count


def test_options_come_from_the_configuration() -> None:
    values = {"model_backend": "toy", "num_clients": 7, "aggregator": "krum", "krum_f": 2, "krum_keep": 3}
    chosen = Krum.from_config(from_mapping(FederateConfig, values))
    assert (chosen.options.krum_f, chosen.options.krum_keep) == (2, 3)
    defaults = TrimmedMean.from_config(FederateConfig(model_backend="toy", aggregator="trimmed_mean"))
    assert defaults.options.trim_ratio == 0.2
    with pytest.raises(FedummError, match=r"Krum\.Options are not the options of TrimmedMean"):
        TrimmedMean(chosen.options)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [2, 3, 8])
def test_a_tensor_that_half_or_fewer_trained_stays_as_it_was(method: type[RobustAggregator], count: int) -> None:
    """Said to have no use for it by the honest ones, it would be the liars' alone."""
    start = client(99)
    updates = [{n: t for n, t in client(k).items() if n != "head.bias" or k < count // 2} for k in range(count)]
    updates[0]["head.bias"] = torch.full((4,), 1e4)
    result = delivered(method(), updates, start)
    assert torch.equal(result.adapter["head.bias"], start["head.bias"])
    assert result.report["kept_back"] == 1
    assert not torch.equal(result.adapter["0.lora_A.weight"], start["0.lora_A.weight"])


@given(st.integers(3, 9), st.data())
@settings(max_examples=50, deadline=None)
def test_fewer_than_half_move_no_entry_of_the_median_beyond_the_others_whoever_trained_what(
    count: int, data: st.DataObject
) -> None:
    """The others' values are where they left the tensor: at the start, if they did not train it."""
    liars = data.draw(st.integers(0, (count - 1) // 2))
    start = client(99)
    honest = [
        {n: t for n, t in client(k).items() if n == "0.lora_A.weight" or data.draw(st.booleans())}
        for k in range(count - liars)
    ]
    bad = [{n: data.draw(st.floats(-1e6, 1e6)) * torch.ones_like(t) for n, t in start.items()} for _ in range(liars)]
    result = delivered(Median(), [*bad, *honest], start).adapter
    for name in SHAPES:
        left = torch.stack([u.get(name, start[name]) for u in honest])
        assert bool(((left.amin(0) - 1e-6 <= result[name]) & (result[name] <= left.amax(0) + 1e-6)).all())
