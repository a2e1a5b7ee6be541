"""A changed backbone and its adapter as one LoRA adapter of the backbone as it was, for export."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from fedumm.adapters.factors import factor_of, modules_of, padded
from fedumm.adapters.state import AdapterState, Spec, spec_of
from fedumm.aggregation.low_rank import (
    LowRank,
    LowRankSum,
    balanced,
    decompose,
    energy,
    rank_within,
    rounding,
    share,
    stack,
)


def merged(
    changes: Mapping[str, LowRankSum], adapter: Mapping[str, torch.Tensor], scale: float, max_rank: int = 0
) -> tuple[AdapterState, int, float]:
    """One adapter that adds to the first backbone what ``changes`` and ``adapter``, of that alpha / rank, do.

    Its alpha is its rank, so its scale is 1. All modules have one rank, the lowest at which each of them errs by no
    more than its rounding (2^-23 of its norm for float32), or ``max_rank`` if that is positive and lower; modules
    that need less are padded with zeros. Tensors that are no factors are taken over; dtypes are those of ``adapter``.

    Returns:
        The adapter, its rank (at least 1), and the share of the energy (the sum of squared singular values over all
        modules) that was cut.

    Raises:
        ValueError: a change of a module that ``adapter`` does not have.
    """
    modules = modules_of(adapter)
    if strange := sorted(changes.keys() - modules.keys()):
        raise ValueError(f"{strange[0]} was changed but is not in the adapter")
    result, values, needed = dict(adapter), [], 1
    for module, (a, b) in modules.items():
        u, s, vt = decompose(*_total(changes.get(module), scale, adapter[b], adapter[a]))
        own = rank_within(s, rounding(adapter[b].dtype) * energy(s) ** 0.5)
        left, right = balanced(u, s, vt, min(own, max_rank) if max_rank > 0 else own)
        result |= {b: left.to(adapter[b].dtype), a: right.to(adapter[a].dtype)}
        values.append(s)
        needed = max(needed, own)
    rank = min(needed, max_rank) if max_rank > 0 else needed
    cut = math.fsum(energy(s[rank:]) for s in values) if rank < needed else 0.0
    return _at_one_rank(result, rank), rank, share(cut, math.fsum(map(energy, values)))


def _total(change: LowRankSum | None, scale: float, b: torch.Tensor, a: torch.Tensor) -> LowRank:
    return stack([(scale, b, a), *((1.0, *sum_.factors()) for sum_ in [change] if sum_)])


def _at_one_rank(adapter: AdapterState, rank: int) -> AdapterState:
    spec: Spec = {}
    for name, (shape, dtype) in spec_of(adapter).items():
        factor = factor_of(name)
        wide = (rank, shape[1]) if factor == "A" else (shape[0], rank) if factor == "B" else shape
        spec[name] = (wide, dtype)
    return {name: tensor.contiguous() for name, tensor in padded(adapter, spec).items()}
