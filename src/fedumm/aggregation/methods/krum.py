"""Krum and multi-Krum (Blanchard et al., 2017, https://arxiv.org/abs/1703.02757)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch

from fedumm.adapters.state import AdapterState
from fedumm.aggregation.base import AggregationResult
from fedumm.aggregation.robust import RobustAggregator

if TYPE_CHECKING:
    from typing_extensions import Self

    from fedumm.config import FederateConfig


class Krum(RobustAggregator):
    """The update that lies closest to its neighbours, or the plain mean of the ``keep`` closest.

    A client's score is the sum of the squared distances from its update, as one vector, to the ``n - f - 2`` nearest
    others; the lowest scores win, of equal ones the first names. Tensors that a client did not send count as the
    start of the round, where it left them.

    Up to ``f`` bad clients of ``n >= 2 f + 3`` are withstood; a greater f is lowered to that, and ``keep`` to
    ``n - f``. Of fewer than three clients none can be told from the other: they are averaged. Weights are not used;
    the server holds all updates of the round, and compares every two of them.

    Args:
        f: bad clients assumed; 0: the most that n allows, ``(n - 3) // 2``.
        keep: winners; 1 is Krum, more is multi-Krum.
    """

    name = "krum"
    options: ClassVar[tuple[str, ...]] = ("krum_f", "krum_keep")

    def __init__(self, f: int = 0, keep: int = 1) -> None:
        self.f, self.keep = f, keep

    @classmethod
    def from_config(cls, config: FederateConfig) -> Self:
        """With ``krum_f`` and ``krum_keep``."""
        return cls(config.krum_f, config.krum_keep)

    def finish(self) -> AggregationResult:
        """The winners' mean; reports how many they are, and f."""
        updates = self.ordered()
        count = len(updates)
        most = max(0, (count - 3) // 2)
        f = min(self.f or most, most)
        keep = min(self.keep, count - f) if count > 2 else count
        if keep < count:
            scores = self._scores(updates, count - f - 2)
            updates = [updates[i] for i in sorted(range(count), key=lambda i: (scores[i], i))[:keep]]
        return AggregationResult(self.centred(updates), report={"krum_f": f, "krum_kept": keep, **self.kept_back()})

    def _scores(self, updates: Sequence[AdapterState], neighbours: int) -> list[float]:
        squared = torch.zeros(len(updates), len(updates), dtype=torch.float64)
        for name, start in self._start.items():
            rows = torch.stack([update.get(name, start).double().flatten() for update in updates])
            # By differences: by products, distances small against the values would be lost.
            squared += torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist") ** 2
        squared.fill_diagonal_(torch.inf)
        scores: list[float] = squared.sort(dim=1).values[:, :neighbours].sum(dim=1).tolist()
        return scores

    def centre(self, values: torch.Tensor) -> torch.Tensor:
        """The mean over the first dimension."""
        return values.mean(dim=0)
