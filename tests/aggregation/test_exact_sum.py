"""ExactSum: the correctly rounded sum of any terms, in any order, split in any way."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedumm.aggregation.exact_sum import ExactSum

GRID = Fraction(1, 2**992)
# Anything that may be summed, and values that cancel or lie near a tie of float64's rounding.
VALUES = st.floats(-(2.0**991), 2.0**991) | st.sampled_from([2.0**53, -(2.0**53), 1.0, -1.0, 2.0**53 + 2, 2.0**-900])
TERMS = st.lists(st.lists(VALUES, min_size=3, max_size=3), min_size=1, max_size=7)


def tensor(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def summed(terms: list[list[float]]) -> ExactSum:
    result = ExactSum((3,))
    for term in terms:
        result.add(tensor(term))
    return result


def on_grid(value: float) -> Fraction:
    """What is below the grid is cut off, towards zero."""
    return int(Fraction(value) / GRID) * GRID


@settings(deadline=None, max_examples=300)
@given(TERMS)
def test_is_the_sum_of_fractions_rounded_once(terms: list[list[float]]) -> None:
    """``float(Fraction)`` is correctly rounded."""
    expected = [float(sum(map(on_grid, column))) for column in zip(*terms, strict=True)]
    assert summed(terms).total().tolist() == expected


@settings(deadline=None, max_examples=100)
@given(TERMS, st.data())
def test_any_permutation_and_any_split_give_the_same_bits(terms: list[list[float]], data: st.DataObject) -> None:
    order = data.draw(st.permutations(terms))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=3)))
    parts = [summed(order[i:j]) for i, j in itertools.pairwise([0, *cuts, len(order)])]
    whole = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
    for part in parts:
        whole.merge(part)
    assert torch.equal(whole.total(), summed(terms).total())


@pytest.mark.parametrize(
    "terms",
    [
        [1e100, 1.0, -1e100],
        [2.0**53, 1.0],  # a tie, to even: down
        [2.0**53 + 2, 1.0],  # a tie, to even: up
        [2.0**53, 1.0, 2.0**-900],  # just above the tie
        [2.0**53 + 2, 1.0, -(2.0**-900)],  # just below it
        [-(2.0**53), -1.0, -(2.0**-900)],
        [2.0**54 - 2, 1.0],  # rounds up to a power of two
        [0.1] * 10,
        [2.0**-992, -(2.0**991), 2.0**991],
    ],
)
def test_cancellation_and_ties(terms: list[float]) -> None:
    result = ExactSum(())
    for term in terms:
        result.add(torch.tensor(term, dtype=torch.float64))
    assert result.total().item() == float(sum(map(Fraction, terms)))


def test_memory_does_not_grow_with_the_number_of_terms() -> None:
    """Digits held are those of the values' range: here 2^-60 to 2^12, three of 32 bits."""
    result = ExactSum((50,))
    generator = torch.Generator().manual_seed(0)
    for count in range(200):
        result.add(torch.rand(50, generator=generator, dtype=torch.float32).double() * 4000 + 2.0**-20 * count)
    assert len(result._digits) <= 3


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 2.0**992, -(2.0**1000)])
def test_what_cannot_be_summed_is_refused_and_changes_nothing(bad: float) -> None:
    result = summed([[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="NaN, infinite or too large"):
        result.add(tensor([5.0, bad, 5.0]))
    with pytest.raises(ValueError, match=r"shape \[2\], expected \[3\]"):
        result.add(tensor([5.0, 5.0]))
    with pytest.raises(ValueError, match=r"shape \[1\], expected \[3\]"):
        result.merge(ExactSum((1,)))
    assert result.total().tolist() == [1.0, 2.0, 3.0]


def test_terms_and_totals_are_not_held_on_to() -> None:
    term, other, result = tensor([1.0, 2.0, 3.0]), summed([[1.0, 1.0, 1.0]]), ExactSum((3,))
    result.merge(other)
    result.add(term)
    assert term.tolist() == [1.0, 2.0, 3.0]
    term.zero_()
    result.total().zero_()
    assert (result.total().tolist(), other.total().tolist()) == ([2.0, 3.0, 4.0], [1.0, 1.0, 1.0])


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (2, 3)])
def test_without_terms_and_without_elements(shape: tuple[int, ...]) -> None:
    result = ExactSum(shape)
    assert torch.equal(result.total(), torch.zeros(shape, dtype=torch.float64))
    result.add(torch.zeros(shape))
    assert torch.equal(result.total(), torch.zeros(shape, dtype=torch.float64))
