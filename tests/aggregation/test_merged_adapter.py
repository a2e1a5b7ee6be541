"""One adapter for export: the backbone's changes and the last adapter, at the lowest rank that holds them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedumm.aggregation.export import merged
from fedumm.aggregation.low_rank import LowRankSum
from support.lora_round import (
    RANK,
    SCALE,
    SHAPES,
    Dense,
    adapter,
    aggregate,
    array,
    best_of_rank,
    clients,
    dense_mean,
    distance,
    product,
)


def accumulated(
    method: str, dtype: torch.dtype = torch.float32, ranks: tuple[int, ...] = (4, 4)
) -> tuple[dict[str, LowRankSum], dict[str, torch.Tensor], Dense]:
    """Two rounds: the changes, the adapter, and what they add together by dense matrices."""
    changes = {module: LowRankSum(*shape) for module, shape in SHAPES.items()}
    state, total = adapter(0, dtype=dtype), {m: np.zeros(shape) for m, shape in SHAPES.items()}
    for number in (1, 2):
        parts = clients(ranks, [2.0, 5.0 * number], [3.0, 8.0], dtype)
        delivery = aggregate(method, state, parts[:number])
        for module, pair in delivery.change.items():
            changes[module].add(*pair)
            total[module] += array(pair[0]) @ array(pair[1])
        state = delivery.adapter
    return changes, state, {m: d + product(state, m, SCALE) for m, d in total.items()}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-7), (torch.float64, 1e-13)])
@pytest.mark.parametrize("method", ["flora", "fedex_lora", "svd"])
def test_adds_what_changes_and_adapter_do(method: str, dtype: torch.dtype, tolerance: float) -> None:
    changes, state, total = accumulated(method, dtype)
    result, rank, cut = merged(changes, state, SCALE)
    assert distance({m: product(result, m, 1.0) for m in SHAPES}, total) < tolerance
    assert cut == 0.0
    assert list(result) == list(state)
    assert torch.equal(result["head.bias"], state["head.bias"])
    for module, (out, into) in SHAPES.items():
        a, b = result[f"{module}.lora_A.weight"], result[f"{module}.lora_B.weight"]
        assert (a.shape, b.shape, a.dtype, b.dtype) == ((rank, into), (out, rank), dtype, dtype)


def test_the_rank_is_the_lowest_that_loses_nothing() -> None:
    """1 and 1 + 2 from the rounds of FLoRA, of them the first client's twice: 3, whatever they were stacked to."""
    changes, state, total = accumulated("flora", ranks=(1, 2))
    result, rank, _ = merged(changes, state, SCALE)
    assert rank == max(np.linalg.matrix_rank(d, tol=1e-6) for d in total.values()) == 3
    assert changes["wide"].factors()[0].shape[1] == 4
    assert not result["narrow.lora_A.weight"][3:].any()


def test_modules_that_need_less_are_padded_with_zeros() -> None:
    state = {name: t.clone() for name, t in adapter(0).items()}
    state["tall.lora_B.weight"][:, 1:] = 0
    result, rank, _ = merged({}, state, SCALE)
    assert rank == RANK
    assert not result["tall.lora_B.weight"][:, 1:].any()
    assert not result["tall.lora_A.weight"][1:].any()
    assert distance({m: product(result, m, 1.0) for m in SHAPES}, {m: product(state, m, SCALE) for m in SHAPES}) < 1e-6


@pytest.mark.parametrize("most", [1, 2, 5])
def test_at_most_max_rank_and_the_cut_is_numpys(most: int) -> None:
    changes, state, total = accumulated("fedex_lora", torch.float64)
    result, rank, cut = merged(changes, state, SCALE, max_rank=most)
    assert rank == most
    best = {m: best_of_rank(d, most) for m, d in total.items()}
    assert distance({m: product(result, m, 1.0) for m in SHAPES}, best) < 1e-12
    values = [np.linalg.svd(d, compute_uv=False) ** 2 for d in total.values()]
    assert cut == pytest.approx(sum(v[most:].sum() for v in values) / sum(v.sum() for v in values), rel=1e-10)


def test_a_higher_max_rank_changes_nothing() -> None:
    changes, state, _ = accumulated("fedex_lora")
    (free, rank, cut), (bounded, *others) = merged(changes, state, SCALE), merged(changes, state, SCALE, max_rank=99)
    assert others == [rank, cut]
    assert all(torch.equal(free[name], bounded[name]) for name in free)


def test_of_nothing_has_rank_one() -> None:
    state = {name: torch.zeros_like(t) for name, t in adapter(0).items()}
    result, rank, cut = merged({}, state, SCALE)
    assert (rank, cut) == (1, 0.0)
    assert result["wide.lora_A.weight"].shape == (1, 20)
    assert not any(tensor.any() for tensor in result.values())


def test_a_change_outside_the_adapter_is_an_error() -> None:
    with pytest.raises(ValueError, match="other was changed but is not in the adapter"):
        merged({"other": LowRankSum(2, 3)}, adapter(0), SCALE)


def test_goes_on_from_the_mean_of_one_round() -> None:
    """FLoRA's one round, exported, is the dense mean of its clients."""
    parts = clients([4, 2], [1.0, 3.0], [6.0, 2.0])
    delivery = aggregate("flora", adapter(0), parts)
    changes = {module: LowRankSum(*SHAPES[module]) for module in delivery.change}
    for module, pair in delivery.change.items():
        changes[module].add(*pair)
    result, *_ = merged(changes, delivery.adapter, SCALE)
    assert distance({m: product(result, m, 1.0) for m in SHAPES}, dense_mean(parts)) < 1e-6


@pytest.mark.parametrize(("dtype", "expected"), [(torch.float32, RANK), (torch.float64, RANK + 2)])
def test_what_the_dtype_cannot_hold_anyway_takes_no_rank(dtype: torch.dtype, expected: int) -> None:
    small = LowRankSum(*SHAPES["tall"])
    other = adapter(1, rank=2)
    small.add(1e-9 * other["tall.lora_B.weight"], other["tall.lora_A.weight"])
    assert merged({"tall": small}, adapter(0, dtype=dtype), SCALE)[1:] == (expected, 0.0)
