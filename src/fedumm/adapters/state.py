"""The adapter: everything of a model that is trained and exchanged, as named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from fedumm.lazy import torch

AdapterState: TypeAlias = "dict[str, torch.Tensor]"
"""Parameter name to tensor. For a PEFT model the names are those of its saved files."""

Spec = dict[str, tuple[tuple[int, ...], str]]
"""Parameter name to shape and dtype name: what every update must look like."""

LARGEST = 2.0**20
"""No adapter has values of a larger magnitude, and above it exact sums would end."""


def spec_of(state: Mapping[str, torch.Tensor]) -> Spec:
    """Names, shapes and dtypes of ``state``."""
    return {name: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in state.items()}


def check_state(state: Mapping[str, torch.Tensor], spec: Spec) -> str | None:
    """What is wrong with ``state`` as an adapter of shape ``spec``, or None.

    Names, shapes and dtypes must match, and every value must be finite.
    """
    if missing := sorted(spec.keys() - state.keys()):
        return f"{len(missing)} tensor(s) missing, among them {missing[0]}"
    if extra := sorted(state.keys() - spec.keys()):
        return f"{len(extra)} unknown tensor(s), among them {extra[0]}"
    for name, (shape, dtype) in spec.items():
        found = (tuple(state[name].shape), str(state[name].dtype).removeprefix("torch."))
        if found != (shape, dtype):
            return f"{name} is {found[1]}{list(found[0])}, expected {dtype}{list(shape)}"
        if not torch.isfinite(state[name]).all():
            return f"{name} holds NaN or infinite values"
    return None


def part(state: Mapping[str, torch.Tensor], prefix: str) -> AdapterState:
    """The tensors under ``prefix``, by their names without it."""
    return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}


def under(prefix: str, state: Mapping[str, torch.Tensor]) -> AdapterState:
    """The inverse of :func:`part`."""
    return {prefix + name: t for name, t in state.items()}
