"""Cross-entropy over many classes without holding all logits."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

LOGITS_BYTES = 256 * 2**20
"""Most bytes of logits in float32 at a time, beside which the softmax and two gradients of their size exist."""


def cross_entropies(
    head: Callable[[torch.Tensor], torch.Tensor], states: torch.Tensor, labels: torch.Tensor, classes: int
) -> torch.Tensor:
    """The surprise of each label in nats, float32, in the shape of ``labels``.

    Logits are made for as many rows at a time as :data:`LOGITS_BYTES` allow, at least one. In training they are made
    once more in the backward pass (Chen et al., 2016), unless all rows come at once.

    Args:
        head: from states to logits ``(..., classes)``.
        states: ``(rows, ..., width)``.
        labels: ``(rows, ...)`` int64.
    """
    most = max(1, LOGITS_BYTES // (4 * classes * max(1, math.prod(labels.shape[1:]))))
    if len(labels) <= most:
        return _cross_entropies(head, states, labels)
    pieces = []
    for some, own in zip(states.split(most), labels.split(most), strict=True):
        if torch.is_grad_enabled():
            pieces.append(checkpoint(_cross_entropies, head, some, own, use_reentrant=False))
        else:
            pieces.append(_cross_entropies(head, some, own))
    return torch.cat(pieces)


def _cross_entropies(
    head: Callable[[torch.Tensor], torch.Tensor], states: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    return F.cross_entropy(head(states).float().movedim(-1, 1), labels, reduction="none")
