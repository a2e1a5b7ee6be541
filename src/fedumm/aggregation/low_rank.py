"""Matrices of low rank as factors in float64: norm, best approximation and running sum, the matrix never built.

A pair ``(left, right)`` of shapes ``(out, q)`` and ``(q, in)`` stands for ``left @ right``; q may be 0, or larger
than out and in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from fedumm.lazy import torch

LowRank: TypeAlias = "tuple[torch.Tensor, torch.Tensor]"

_ROUNDING = 1e-14
"""What float64 leaves of a sum that cancels, as a share of the sum of the norms of its q terms of rank 1. Householder's
QR errs column by column (Higham, 2002, 19.4), so the share does not depend on how the terms are scaled. Measured: at
most 7e-16 for sides up to 3,072; a value that was sent as float32 carries 6e-8."""


def stack(terms: Iterable[tuple[float, torch.Tensor, torch.Tensor]]) -> LowRank:
    """``sum_i c_i L_i R_i`` of terms ``(c_i, L_i, R_i)`` as one pair; at least one term."""
    scaled = [(c * left.double(), right.double()) for c, left, right in terms]
    return torch.cat([left for left, _ in scaled], dim=1), torch.cat([right for _, right in scaled])


def _noise(left: torch.Tensor, right: torch.Tensor) -> float:
    """Below this a singular value, or the norm, of ``left @ right`` is rounding."""
    return _ROUNDING * float((left.norm(dim=0) * right.norm(dim=1)).sum())


def product_norm(left: torch.Tensor, right: torch.Tensor) -> float:
    """Frobenius norm of ``left @ right``, to float64 rounding of its terms, below which it is 0.0.

    From the triangles of both factors' QR: the squares of a Gram matrix would lose half of the digits where terms
    cancel. With q of at least out or in the product itself is the smaller matrix.
    """
    noise = _noise(left, right)
    if left.shape[1] < min(left.shape[0], right.shape[1]):
        left, right = torch.linalg.qr(left, mode="r").R, torch.linalg.qr(right.T, mode="r").R.T
    norm = float(torch.linalg.norm(left @ right))
    return norm if norm > noise else 0.0


def _reduced(matrix: torch.Tensor) -> LowRank:
    """An orthonormal basis of the columns, and the coefficients in it."""
    if matrix.shape[1] >= matrix.shape[0]:
        return torch.eye(matrix.shape[0], dtype=matrix.dtype), matrix
    q, r = torch.linalg.qr(matrix)
    return q, r


def decompose(left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Singular value decomposition of ``left @ right`` by QR of both factors, at its numerical rank n.

    Returns:
        U ``(out, n)``, the singular values ``(n,)`` from the largest, V^T ``(n, in)``. Signs are fixed: the entry of
        largest magnitude in each column of U is positive.
    """
    (q_left, r_left), (q_right, r_right) = _reduced(left), _reduced(right.T)
    u, s, vt = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    n = int((s > _noise(left, right)).sum())
    u, vt = q_left @ u[:, :n], vt[:n] @ q_right.T
    signs = u.gather(0, u.abs().argmax(dim=0, keepdim=True)).sign()
    return u * signs, s[:n], vt * signs.T


def balanced(u: torch.Tensor, s: torch.Tensor, vt: torch.Tensor, rank: int) -> LowRank:
    """``(U sqrt(S), sqrt(S) V^T)`` of the first ``rank`` singular values, or of all if there are fewer.

    The nearest matrix of that rank (Eckart and Young, 1936); a prefix of the factors is that of a lower rank.
    """
    root = s[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * vt[:rank]


def share(part: float, whole: float) -> float:
    """``part / whole``, and 0.0 of nothing."""
    return part / whole if whole else 0.0


def energy(s: torch.Tensor) -> float:
    """Sum of squared singular values."""
    return float(s.square().sum())


def rank_within(s: torch.Tensor, loss: float) -> int:
    """The lowest rank whose error, the norm of the singular values behind it, is at most ``loss``."""
    tails = s.flip(0).square().cumsum(0).sqrt()
    return int((tails > loss).sum())


def rounding(dtype: torch.dtype) -> float:
    """The share of a matrix that factors in ``dtype`` lose anyway, or in float32 if that is finer."""
    return min(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)


def _with_identity(dense: torch.Tensor) -> LowRank:
    out, into = dense.shape
    eye = torch.eye(min(out, into), dtype=dense.dtype)
    return (eye, dense) if out < into else (dense, eye)


def shortened(left: torch.Tensor, right: torch.Tensor) -> LowRank:
    """The same matrix with q at most min(out, in): beyond it the product itself and an identity."""
    long = left.shape[1] > min(left.shape[0], right.shape[1])
    return _with_identity(left @ right) if long else (left, right)


class LowRankSum:
    """A running sum of matrices ``(out, in)`` in float64.

    As stacked factors while these are smaller than the matrix, and as the matrix from then on: never more than
    8 bytes an entry of it, and nothing is lost. ``LowRankSum(out, into)`` with :meth:`factors` added goes on with
    the same bits.
    """

    def __init__(self, out: int, into: int) -> None:
        self._pair: LowRank = (torch.zeros(out, 0, dtype=torch.float64), torch.zeros(0, into, dtype=torch.float64))
        self._dense: torch.Tensor | None = None

    def add(self, left: torch.Tensor, right: torch.Tensor) -> None:
        """Add ``left @ right``, of any floating dtype."""
        if self._dense is not None:
            self._dense.addmm_(left.double(), right.double())
            return
        self._pair = left, right = stack([(1.0, *self._pair), (1.0, left, right)])
        if left.numel() + right.numel() >= left.shape[0] * right.shape[1]:
            self._dense = left @ right

    def factors(self) -> LowRank:
        """The sum as one pair, with q at most min(out, in); not to be changed."""
        return self._pair if self._dense is None else _with_identity(self._dense)
