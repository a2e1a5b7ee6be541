"""LoRA factors by name: which tensors belong together, and one adapter at several ranks.

A module's update is ``s B A`` with ``A`` of shape ``(rank, in)``, ``B`` of ``(out, rank)`` and ``s = alpha / rank``
(Hu et al., 2021). What is no factor of LoRA (``modules_to_save``, a backend's own parameters) is a plain tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from fedumm.adapters.state import AdapterState, Spec
from fedumm.lazy import torch

Factor = Literal["A", "B"]
_SUFFIX: dict[Factor, str] = {"A": ".lora_A.weight", "B": ".lora_B.weight"}


def factor_of(name: str) -> Factor | None:
    """Which factor the tensor ``name`` is, told by PEFT's name for it and never by its shape; None: no factor."""
    return next((factor for factor, suffix in _SUFFIX.items() if name.endswith(suffix)), None)


def modules_of(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Module to the names of its A and B, sorted by module.

    Example:
        >>> modules_of(["x.lora_A.weight", "x.lora_B.weight", "head.bias"])
        {'x': ('x.lora_A.weight', 'x.lora_B.weight')}
    """
    known = set(names)
    heads = sorted(name.removesuffix(_SUFFIX["A"]) for name in known if factor_of(name) == "A")
    pairs = {head: (head + _SUFFIX["A"], head + _SUFFIX["B"]) for head in heads}
    return {head: pair for head, pair in pairs.items() if pair[1] in known}


def at_rank(state: Mapping[str, torch.Tensor], rank: int, ratio: float = 1.0) -> AdapterState:
    """``state`` at a lower rank: the first ``rank`` rows of each A and columns of each B, B multiplied by ``ratio``.

    With ``ratio`` the old ``alpha / rank`` divided by the new one, the factors that are kept add to the weights
    what they did before.
    """
    result: AdapterState = {}
    for name, tensor in state.items():
        factor = factor_of(name)
        if factor == "A":
            tensor = tensor[:rank]
        elif factor == "B":
            tensor = tensor[:, :rank] if ratio == 1.0 else tensor[:, :rank] * ratio
        result[name] = tensor.contiguous()
    return result


def padded(state: Mapping[str, torch.Tensor], spec: Spec) -> AdapterState:
    """``state`` with zeros up to the shapes of ``spec``: the same function, and these zeros get no gradient."""
    result: AdapterState = {}
    for name, tensor in state.items():
        shape = spec[name][0]
        if tuple(tensor.shape) != shape and factor_of(name):
            whole = tensor.new_zeros(shape)
            whole[: tensor.shape[0], : tensor.shape[1]] = tensor
            tensor = whole
        result[name] = tensor
    return result


def spec_at_rank(spec: Spec, rank: int) -> Spec:
    """Shapes of :func:`at_rank`'s result."""
    result: Spec = {}
    for name, (shape, dtype) in spec.items():
        factor = factor_of(name)
        if factor == "A":
            shape = (min(rank, shape[0]), *shape[1:])
        elif factor == "B":
            shape = (shape[0], min(rank, shape[1]))
        result[name] = (shape, dtype)
    return result
