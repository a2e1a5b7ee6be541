"""The weighted mean of named tensors, as a stream."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from fedumm.aggregation.exact_sum import LIMIT, ExactSum, check_term
from fedumm.lazy import torch


class WeightedMean:
    """``sum_k w_k x_k / sum_k w_k`` for every named tensor, over those that sent it, in float64.

    Each product is rounded to float64 (of float32 values and whole weights below 2^29 it is exact); the two sums
    are exact, and rounded once (:class:`ExactSum`, which says what memory that takes). So the order changes no bit,
    nor does it that ``k`` comes in two parts of whole weights.
    """

    def __init__(self) -> None:
        self._sums: dict[str, ExactSum] = {}
        self._weights: dict[str, Fraction] = {}

    def add(self, tensors: Mapping[str, torch.Tensor], weight: float) -> None:
        """Count ``tensors`` with a positive ``weight``.

        Raises:
            ValueError: the weight or a product is not below 2^992 in magnitude, or a tensor is of another shape
                than before; nothing is added.
        """
        if not weight < LIMIT:
            raise ValueError(f"weight {weight} is too large")
        terms = {name: weight * tensor.to(torch.float64) for name, tensor in tensors.items()}
        for name, term in terms.items():
            self._check(name, term)
        for name, term in terms.items():
            self._sums.setdefault(name, ExactSum(term.shape)).add(term)
            self._weights[name] = self._weights.get(name, Fraction(0)) + Fraction(weight)

    def _check(self, name: str, term: torch.Tensor) -> None:
        try:
            check_term(term)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None
        if name in self._sums and self._sums[name].shape != tuple(term.shape):
            raise ValueError(f"{name} is of shape {list(term.shape)}, expected {list(self._sums[name].shape)}")

    def result(self) -> dict[str, torch.Tensor]:
        """The means in float64; a tensor that nobody sent is not among them.

        Raises:
            ValueError: nothing was added.
        """
        if not self._sums:
            raise ValueError("no update to average")
        return {name: own.total() / float(self._weights[name]) for name, own in self._sums.items()}
