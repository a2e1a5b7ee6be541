"""Clipping and Gaussian noise on updates (DP-FedAvg, McMahan et al., 2018, https://arxiv.org/abs/1710.06963).

An update is what a client changed, tensor by tensor; its norm is the L2 norm of all its tensors together.

Floating-point numbers are no real numbers: from the last bits of a float64 sum an attacker can tell what the noise
was added to (Mironov, 2012, https://doi.org/10.1145/2382196.2382264). Here noise and sum are float64 and only their
rounding to the adapter's float32 is released, which drops those bits (but of values near 0). That blunts the known
attack; it is no proof.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch

from fedumm.adapters.state import AdapterState

Normal = Callable[[tuple[int, ...]], torch.Tensor]
"""Draws independent standard normal values, float64, in the shape given."""


def secure_normal(shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal values, float64, from the operating system's entropy (Box & Muller, 1958): cut at 8.5.

    Not from the run's seed, which stands in its ``config.yaml``: whoever reads that could draw the noise again and
    subtract it. And not from a ``torch.Generator``, whatever its seed: the CPU's uses 32 bits of it, few enough to
    try all. So the noise of two runs of one seed differs.
    """
    count = math.prod(shape)
    pairs = (count + 1) // 2
    words = np.frombuffer(os.urandom(16 * pairs), dtype=np.uint64).reshape(2, pairs) >> np.uint64(11)
    radius = np.sqrt(-2 * np.log((words[0] + 1.0) * 2.0**-53))  # of (0, 1]: no logarithm of 0
    angle = words[1] * (2 * np.pi * 2.0**-53)
    values = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    return torch.from_numpy(values[:count]).reshape(shape)


def norm_of(update: Mapping[str, torch.Tensor]) -> float:
    """L2 norm of all tensors together, in float64; no square of a finite value overflows."""
    peak = max((t.abs().max().item() for t in update.values() if t.numel()), default=0.0)
    if peak == 0:
        return 0.0
    return peak * math.sqrt(sum((t.double() / peak).square().sum().item() for t in update.values()))


def clip(update: Mapping[str, torch.Tensor], bound: float) -> tuple[AdapterState, float]:
    """``update`` scaled down to an L2 norm of ``bound`` at most, and the norm that it had.

    An update within the bound is returned as it is. The bound holds for the result in the tensors' own dtype, after
    rounding.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    if not all(torch.isfinite(t).all() for t in update.values()):
        raise ValueError("an update with NaN or infinite values can't be clipped")
    norm = norm_of(update)
    if norm <= bound:
        return dict(update), norm
    scale = bound / norm
    shrink = 1 - max(torch.finfo(t.dtype).eps for t in update.values())
    while norm_of(clipped := {name: (t.double() * scale).to(t.dtype) for name, t in update.items()}) > bound:
        scale *= shrink
        shrink *= shrink  # ever faster: of numbers at the end of the dtype's range nothing may be left
    return clipped, norm


def clipped_sum(
    updates: Iterable[Mapping[str, torch.Tensor]], bound: float, like: Mapping[str, torch.Tensor]
) -> AdapterState:
    """Sum of the updates, each clipped to ``bound``: float64, in the shapes of ``like``.

    One update more or less changes it by an L2 norm of ``bound`` at most. A tensor that an update lacks is zero.
    Memory does not grow with the number of updates.

    Raises:
        ValueError: an update has NaN, infinite values, or a tensor that ``like`` has not in this shape.
    """
    total = {name: torch.zeros(t.shape, dtype=torch.float64) for name, t in like.items()}
    for update in updates:
        for name, tensor in clip(update, bound)[0].items():
            if name not in total or total[name].shape != tensor.shape:
                raise ValueError(f"{name} of shape {list(tensor.shape)} is not part of the sum")
            total[name] += tensor
    return total


def noisy_mean(
    updates: Iterable[Mapping[str, torch.Tensor]],
    bound: float,
    noise_multiplier: float,
    expected: float,
    like: Mapping[str, torch.Tensor],
    normal: Normal = secure_normal,
) -> AdapterState:
    """Central mode: ``(sum_k clip(x_k, C) + N(0, (sigma C)^2)) / n`` in the names, shapes and dtypes of ``like``.

    The noise is on every value, also where nobody sent a tensor or nobody took part: what is missing would tell who
    was there. ``expected`` is n, fixed before the run: the number that did send would tell too.

    Raises:
        ValueError: as :func:`clipped_sum`.
    """
    total = clipped_sum(updates, bound, like)
    std = noise_multiplier * bound
    return {name: ((total[name] + std * normal(tuple(t.shape))) / expected).to(t.dtype) for name, t in like.items()}


def add_noise(update: Mapping[str, torch.Tensor], std: float, normal: Normal = secure_normal) -> AdapterState:
    """Local mode: ``update`` (clipped before) with N(0, std^2) on every value, in its own names, shapes and dtypes."""
    return {name: (t.double() + std * normal(tuple(t.shape))).to(t.dtype) for name, t in update.items()}


def private_update(
    start: Mapping[str, torch.Tensor], trained: Mapping[str, torch.Tensor], bound: float, std: float
) -> AdapterState:
    """Local mode: ``trained`` again, but for a clipped and noisy difference to ``start``."""
    move, _ = clip({name: t - start[name] for name, t in trained.items()}, bound)
    return {name: start[name] + t for name, t in add_noise(move, std).items()}
