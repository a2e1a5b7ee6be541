"""Ragged rows as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def pad(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    """Ragged integer rows as ``(len(rows), longest)`` int64, filled with ``value`` on the right."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows], dtype=torch.int64)
