"""Matrices as factors, against numpy on the dense matrix: also empty, zero, cancelling and longer than the matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedumm.aggregation.low_rank import (
    LowRank,
    LowRankSum,
    balanced,
    decompose,
    energy,
    product_norm,
    rank_within,
    share,
    shortened,
    stack,
)
from support.lora_round import array, best_of_rank


def pair(seed: int, out: int, into: int, q: int) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(out, q, generator=generator, dtype=torch.float64)
    return left, torch.randn(q, into, generator=generator, dtype=torch.float64)


def dense(left: torch.Tensor, right: torch.Tensor) -> np.ndarray:
    return array(left) @ array(right)


pairs = st.builds(pair, st.integers(0, 99), st.integers(1, 9), st.integers(1, 9), st.integers(0, 14))


def test_a_stack_is_the_sum_of_its_terms() -> None:
    terms = [(0.25, *pair(1, 5, 7, 2)), (-3.0, *pair(2, 5, 7, 4)), (1.0, *pair(3, 5, 7, 0))]
    left, right = stack((c, a.float(), b.float()) for c, a, b in terms)
    assert (left.shape, right.shape, left.dtype, right.dtype) == ((5, 6), (6, 7), torch.float64, torch.float64)
    expected = sum(c * dense(a.float(), b.float()) for c, a, b in terms)
    np.testing.assert_allclose(dense(left, right), expected, rtol=1e-13)


@settings(deadline=None, max_examples=80)
@given(pairs)
def test_norm(factors: LowRank) -> None:
    assert product_norm(*factors) == pytest.approx(np.linalg.norm(dense(*factors)), rel=1e-13)


@pytest.mark.parametrize("size", [1e-6, 1e-9, 1e-12])
def test_the_norm_of_a_small_difference_keeps_its_digits(size: float) -> None:
    """A Gram matrix would square it: 1e-9 of the terms would drown in their rounding."""
    left, right = pair(0, 40, 30, 8)
    small_left, small_right = pair(1, 40, 30, 2)
    difference = stack([(1.0, left, right), (-1.0, left, right), (size, small_left, small_right)])
    expected = size * np.linalg.norm(dense(small_left, small_right))
    assert product_norm(*difference) == pytest.approx(expected, rel=1e-14 / size)


@pytest.mark.parametrize("q", [3, 30])
def test_what_cancels_has_norm_zero_and_rank_zero_however_it_is_scaled(q: int) -> None:
    """Terms of 1e8 by 1e-8 and the reverse: sizes of whole factors would say nothing about rounding."""
    left, right = pair(0, 11, 17, q)
    powers = torch.logspace(-8, 8, q, dtype=torch.float64)
    nothing = stack([(1.0, left * powers, right / powers[:, None]), (-1.0, left, right)])
    assert product_norm(*nothing) == 0.0
    assert decompose(*nothing)[1].numel() == 0
    rest = stack([(1.0, *nothing), (1e-9, *pair(1, 11, 17, 2))])
    assert decompose(*rest)[1].numel() == 2


@settings(deadline=None, max_examples=120)
@given(pairs, st.integers(0, 12))
def test_the_balanced_prefix_is_the_best_of_its_rank(factors: LowRank, rank: int) -> None:
    matrix = dense(*factors)
    values = np.linalg.svd(matrix, compute_uv=False)
    u, s, vt = decompose(*factors)
    left, right = balanced(u, s, vt, rank)
    inner = min(rank, factors[0].shape[1], *matrix.shape)
    assert (left.shape, right.shape) == ((matrix.shape[0], inner), (inner, matrix.shape[1]))
    size = values[:1].sum()
    np.testing.assert_allclose(dense(left, right), best_of_rank(matrix, rank), atol=1e-9 * size)
    error = np.linalg.norm(dense(left, right) - matrix)
    assert error == pytest.approx(np.sqrt((values[rank:] ** 2).sum()), abs=1e-13 * size)
    assert share(energy(s[rank:]), energy(s)) == pytest.approx(
        (values[rank:] ** 2).sum() / ((values**2).sum() or 1.0), abs=1e-14
    )
    np.testing.assert_allclose(array(left.norm(dim=0)), np.sqrt(values[:inner]), rtol=1e-9)
    np.testing.assert_allclose(array(right.norm(dim=1)), np.sqrt(values[:inner]), rtol=1e-9)


def test_signs_are_fixed_by_the_largest_entry_of_the_left_vectors() -> None:
    left, right = pair(4, 9, 6, 3)
    turned = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))).Q
    for u, _, vt in (decompose(left, right), decompose(-left @ turned, -turned.T @ right)):
        assert (u.gather(0, u.abs().argmax(dim=0, keepdim=True)) > 0).all()
        torch.testing.assert_close(u, decompose(left, right)[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(vt, decompose(left, right)[2], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("q", "true_rank"), [(6, 2), (20, 5), (40, 3), (3, 0)])
def test_the_numerical_rank_is_the_true_one(q: int, true_rank: int) -> None:
    left, right = pair(0, 13, 10, true_rank)
    mixed = pair(1, true_rank, true_rank, q)
    u, s, vt = decompose(left @ mixed[0], torch.linalg.pinv(mixed[0]) @ right)
    assert s.numel() == true_rank
    np.testing.assert_allclose(array(u * s) @ array(vt), dense(left, right), atol=1e-12)


def test_rank_within() -> None:
    """Tails of (4, 3, 0.3, 0.4) are 5.0249..., 3.0414..., 0.5 and 0.4."""
    values = torch.tensor([4.0, 3.0, 0.3, 0.4], dtype=torch.float64)
    assert [rank_within(values, loss) for loss in (0.0, 0.39, 0.45, 0.51, 3.05, 5.1)] == [4, 4, 3, 2, 1, 0]
    assert rank_within(values[:0], 0.0) == 0


@settings(deadline=None, max_examples=60)
@given(pairs)
def test_shortened_is_the_same_matrix_of_fewest_terms(factors: LowRank) -> None:
    left, right = shortened(*factors)
    assert left.shape[1] == right.shape[0] == min(factors[0].shape[1], left.shape[0], right.shape[1])
    np.testing.assert_allclose(dense(left, right), dense(*factors), rtol=1e-13, atol=1e-13)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9), st.integers(1, 9), st.lists(st.integers(0, 6), max_size=6), st.integers(0, 6))
def test_a_running_sum_stays_small_and_goes_on_from_its_factors(
    out: int, into: int, inner: list[int], stop: int
) -> None:
    terms = [pair(seed, out, into, q) for seed, q in enumerate(inner)]
    straight, resumed = LowRankSum(out, into), LowRankSum(out, into)
    for i, term in enumerate(terms):
        straight.add(*term)
        if i == stop:
            kept, resumed = resumed.factors(), LowRankSum(out, into)
            resumed.add(*kept)
        resumed.add(*term)
        assert straight.factors()[0].shape[1] <= min(out, into)
    expected = sum((dense(*term) for term in terms), np.zeros((out, into)))
    np.testing.assert_allclose(dense(*straight.factors()), expected, atol=1e-13)
    assert all(torch.equal(a, b) for a, b in zip(straight.factors(), resumed.factors(), strict=True))


def test_sums_are_exact_for_terms_of_any_dtype() -> None:
    """2^24 + 1 - 2^24: in float32 the one would vanish."""
    total = LowRankSum(1, 1)
    for value in (2.0**24, 1.0, -(2.0**24)):
        total.add(torch.tensor([[value]]), torch.ones(1, 1, dtype=torch.bfloat16))
    assert dense(*total.factors()).item() == 1.0
