"""A sum of tensors that does not depend on the order of its terms, nor on how they were split into partial sums.

Adding floating-point numbers is not associative; adding integers is. Each term is therefore cut into digits of 32
bits on a fixed grid (Kulisch's long accumulator, one per element), and digits are added as int64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fedumm.lazy import torch

DIGIT_BITS = 32
LOWEST, HIGHEST = -31, 30
"""Digits that there are: digit i counts units of ``2^(32 i)``."""

LIMIT = 2.0 ** (DIGIT_BITS * (HIGHEST + 1))
"""Terms stay below 2^992 in magnitude, so that a sum of 2^31 of them is a float64."""


def check_term(term: torch.Tensor) -> float:
    """The largest magnitude in ``term``.

    Raises:
        ValueError: it cannot be summed exactly: a value is NaN, infinite or of magnitude 2^992 or more.
    """
    largest = term.abs().max().item() if term.numel() else 0.0
    if not largest < LIMIT:
        raise ValueError(f"holds NaN, infinite or too large values: {largest}")
    return largest


class ExactSum:
    """Sum of up to 2^31 float64 tensors of one shape, rounded once, at the end.

    Terms are exact down to the grid of 2^-992 (below, they are cut off: an error under 2^-992 a term). Memory is 8
    bytes an element for each digit that any term has touched, whatever the number of terms: three or four digits
    for float32 values of usual spread times sample counts, 11 at most for float32 times weights in [1, 2^29), and
    62 at most.

    Example:
        >>> total = ExactSum((1,))
        >>> for value in (1e100, 1.0, -1e100):
        ...     total.add(torch.tensor([value], dtype=torch.float64))
        >>> total.total().item()
        1.0
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        self._digits: dict[int, torch.Tensor] = {}

    def add(self, term: torch.Tensor) -> None:
        """Add a tensor, taken as float64.

        Raises:
            ValueError: of another shape, or as :func:`check_term` says; the sum is as it was.
        """
        if tuple(term.shape) != self.shape:
            raise ValueError(f"is of shape {list(term.shape)}, expected {list(self.shape)}")
        rest = term.to(torch.float64, copy=True)
        index = (math.frexp(check_term(rest))[1] - 1) // DIGIT_BITS
        while index >= LOWEST and rest.any():
            # Powers of two and integers below 2^32: every one of these operations is exact.
            digit = torch.trunc(rest * 2.0 ** (-DIGIT_BITS * index))
            rest -= digit * 2.0 ** (DIGIT_BITS * index)
            self._accumulate(index, digit.to(torch.int64))
            index -= 1

    def merge(self, other: ExactSum) -> None:
        """Add the terms of ``other``, which stays as it is.

        Raises:
            ValueError: it is of another shape.
        """
        if other.shape != self.shape:
            raise ValueError(f"is of shape {list(other.shape)}, expected {list(self.shape)}")
        for index, digit in other._digits.items():
            self._accumulate(index, digit)

    def _accumulate(self, index: int, digit: torch.Tensor) -> None:
        if index in self._digits:
            self._digits[index] += digit
        else:
            self._digits[index] = digit.clone()

    def total(self) -> torch.Tensor:
        """The sum in float64, to the nearest (ties to even)."""
        if not self._digits:
            return torch.zeros(self.shape, dtype=torch.float64)
        low, high = min(self._digits), max(self._digits)
        zero = torch.zeros(self.shape, dtype=torch.int64)
        digits = [self._digits.get(index, zero) for index in range(low, high + 1)]
        # After carrying, only the highest digit has a sign, which is the sum's.
        sign = torch.where(_carried(digits)[-1] < 0, -1, 1)
        return sign * _rounded(_carried([sign * digit for digit in digits]), low)


def _carried(digits: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The same number in digits from 0 to 2^32 - 1, lowest first, and one more at the end that has the sign."""
    result, carry = [], torch.zeros_like(digits[0])
    for digit in digits:
        value = digit + carry
        result.append(value & (2**DIGIT_BITS - 1))
        carry = value >> DIGIT_BITS
    return [*result, carry]


def _rounded(digits: Sequence[torch.Tensor], low: int) -> torch.Tensor:
    """Non-negative digits, lowest first and of index ``low``, as the nearest float64.

    The three digits from the first that is not zero hold 65 bits or more; whether anything follows them goes into
    the last bit, far below the 54th, which decides the rounding.
    """
    zero = torch.zeros_like(digits[0])
    a, b, c, *rest = [*reversed(digits), zero, zero]
    unit = torch.full(a.shape, 2.0 ** (DIGIT_BITS * (low + len(digits) - 1)), dtype=torch.float64)
    for digit in rest:
        leading = a == 0
        a, b, c = torch.where(leading, b, a), torch.where(leading, c, b), torch.where(leading, digit, c | (digit > 0))
        unit *= torch.where(leading, 2.0**-DIGIT_BITS, 1.0)
    return _sum_of_three(a, b, c) * unit


def _sum_of_three(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """``a + b / 2^32 + c / 2^64`` to the nearest: the first sum's error is a float64 (Dekker), and so is it plus c."""
    high, middle, last = (t.to(torch.float64) * 2.0 ** (-DIGIT_BITS * k) for k, t in enumerate((a, b, c)))
    total = high + middle
    return total + ((middle - (total - high)) + last)
