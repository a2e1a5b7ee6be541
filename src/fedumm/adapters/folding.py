"""Linear layers whose frozen weight grows, and how much of its growth arithmetic loses."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from fedumm.precision import full_float32

_ROWS = 512
"""Rows of a matrix at a time: measuring in float64 must not take the memory of a layer in float64."""


class FoldedLinear(torch.nn.Linear):
    """A linear layer whose weight is float32 (or float64) and is never rounded to anything shorter.

    Its input is taken to the weight's type, autocast or not, and only the result is rounded, to the type that
    the layer would have had. A change far below the last bit of a bfloat16 weight then shows in the mean over inputs;
    added to a bfloat16 weight, or to a result that was rounded before, most of it would vanish.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``input @ weight.T + bias``, in the type of ``input``, or in that of autocast where it is on."""
        kind = input.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else input.dtype
        with torch.autocast(kind, enabled=False):
            return F.linear(input.to(self.weight.dtype), self.weight, self.bias).to(dtype)


@torch.no_grad()
def fold(layer: torch.nn.Linear, left: torch.Tensor, right: torch.Tensor) -> float:
    """Add ``left @ right`` to the weight of ``layer``, which becomes a :class:`FoldedLinear`.

    Returns:
        Frobenius norm of what is lost: how far the growth of the matrix that the layer multiplies with, under the
        autocast that is on, is from ``left @ right``. In float64.

    Raises:
        ValueError: the shapes do not fit.
    """
    if (left.shape[0], right.shape[1]) != tuple(layer.weight.shape) or left.shape[1] != right.shape[0]:
        raise ValueError(f"a change of shapes {tuple(left.shape)} and {tuple(right.shape)}")
    left, right = left.to(layer.weight.device), right.to(layer.weight.device)
    before = multiplied(layer).clone()
    _grow(layer, left, right)
    growth = zip(before.split(_ROWS), multiplied(layer).split(_ROWS), product_rows(left, right), strict=True)
    return math.hypot(*(float((new.double() - old.double() - wanted).norm()) for old, new, wanted in growth))


def widen(layer: torch.nn.Linear) -> None:
    """Make ``layer`` a :class:`FoldedLinear`; a float32 one outside autocast computes the very same."""
    if isinstance(layer, FoldedLinear):
        return
    layer.__class__ = FoldedLinear
    for name in ("weight", "bias"):
        own = getattr(layer, name)
        if own is not None and (wide := torch.promote_types(own.dtype, torch.float32)) != own.dtype:
            # Not in place: others may share it.
            setattr(layer, name, torch.nn.Parameter(own.detach().to(wide), requires_grad=own.requires_grad))


def _grow(layer: torch.nn.Linear, left: torch.Tensor, right: torch.Tensor) -> None:
    widen(layer)
    with full_float32(left.device):
        layer.weight += left.float() @ right.float()


def multiplied(layer: torch.nn.Linear) -> torch.Tensor:
    """The matrix that ``layer`` multiplies with, ``(out, in)``: its weight, or what the autocast that is on makes
    of it."""
    weight, kind = layer.weight.detach(), layer.weight.device.type
    rounds = torch.is_autocast_enabled(kind) and weight.dtype == torch.float32 and not isinstance(layer, FoldedLinear)
    return weight.to(torch.get_autocast_dtype(kind)) if rounds else weight


def product_rows(left: torch.Tensor, right: torch.Tensor) -> Iterator[torch.Tensor]:
    """``left @ right`` in float64, some rows at a time."""
    wide = right.double()
    return (rows.double() @ wide for rows in left.split(_ROWS))
