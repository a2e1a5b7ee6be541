"""The adapter: everything of a model that is trained and exchanged, as named tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fedumm.lazy import torch

AdapterState: TypeAlias = "dict[str, torch.Tensor]"
"""Parameter name to tensor. For a PEFT model the names are those of its saved files."""

Spec = dict[str, tuple[tuple[int, ...], str]]
"""Parameter name to shape and dtype name: what every update must look like."""

LARGEST = 2.0**20
"""No adapter has values of a larger magnitude, and above it exact sums would end."""


@dataclass(frozen=True)
class Misfit:
    """The first thing that is wrong with tensors, as :func:`check_state` finds it.

    Attributes:
        kind: what it is about.
        text: what is wrong, with the name of a tensor; as ``str`` of the whole.
    """

    kind: Literal["names", "shape", "non_finite", "huge"]
    text: str

    def __str__(self) -> str:
        return self.text


def spec_of(state: Mapping[str, torch.Tensor]) -> Spec:
    """Names, shapes and dtypes of ``state``."""
    return {name: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in state.items()}


def check_state(
    state: Mapping[str, torch.Tensor],
    spec: Spec,
    *,
    partial: bool = False,
    any_dtype: bool = False,
    largest: float = math.inf,
) -> Misfit | None:
    """What is wrong with ``state`` as an adapter of shape ``spec``, or None.

    Names, shapes and dtypes must match, and every value must be finite.

    Args:
        partial: tensors may be missing.
        any_dtype: dtypes may be others.
        largest: the largest magnitude that a value may have.
    """
    if not partial and (missing := sorted(spec.keys() - state.keys())):
        return Misfit("names", f"{len(missing)} tensor(s) missing, among them {missing[0]}")
    if extra := sorted(state.keys() - spec.keys()):
        return Misfit("names", f"{len(extra)} unknown tensor(s), among them {extra[0]}")
    for name, (shape, dtype) in spec_of(state).items():
        expected = (spec[name][0], dtype if any_dtype else spec[name][1])
        if (shape, dtype) != expected:
            return Misfit("shape", f"{name} is {dtype}{list(shape)}, expected {expected[1]}{list(expected[0])}")
    return check_values(state, largest)


def check_values(state: Mapping[str, torch.Tensor], largest: float = math.inf) -> Misfit | None:
    """The first tensor with a value that is NaN, infinite, or above ``largest`` in magnitude; None if there is none."""
    for name, tensor in state.items():
        # NaN fails the comparison as well; infinity must not pass one with infinity.
        fits = torch.isfinite(tensor) if largest == math.inf else tensor.abs() <= largest
        if not bool(fits.all()):
            huge = bool(torch.isfinite(tensor).all())
            what = f"values above {largest:g} in magnitude" if huge else "NaN or infinite values"
            return Misfit("huge" if huge else "non_finite", f"{name} holds {what}")
    return None


def part(state: Mapping[str, torch.Tensor], prefix: str) -> AdapterState:
    """The tensors under ``prefix``, by their names without it."""
    return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}


def under(prefix: str, state: Mapping[str, torch.Tensor]) -> AdapterState:
    """The inverse of :func:`part`."""
    return {prefix + name: t for name, t in state.items()}
