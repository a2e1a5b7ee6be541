"""Krum and multi-Krum (Blanchard et al., 2017, https://arxiv.org/abs/1703.02757)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedumm.adapters.state import AdapterState
from fedumm.aggregation.base import AggregationResult
from fedumm.aggregation.registry import register_aggregator
from fedumm.aggregation.robust import RobustAggregator
from fedumm.config import AGGREGATION, AggregatorOptions, option, validators
from fedumm.errors import FedummError
from fedumm.lazy import torch


@register_aggregator("krum")
class Krum(RobustAggregator):
    """The update that lies closest to its neighbours, or the plain mean of the ``krum_keep`` closest.

    A client's score is the sum of the squared distances from its update, as one vector, to the ``n - f - 2`` nearest
    others; the lowest scores win, of equal ones the first names. Tensors that a client did not send count as the
    start of the round, where it left them.

    Up to ``f`` bad clients of ``n >= 2 f + 3`` are tolerated; a greater f is lowered to that, and ``krum_keep``
    to ``n - f``. Of fewer than three clients none can be told from the other: they are averaged. Weights are not used;
    the server holds all updates of the round, and compares every two of them.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(AggregatorOptions):
        """``krum_f``: f, of 0 ``(n - 3) // 2``. ``krum_keep``: 1 is Krum, more is multi-Krum."""

        krum_f: int = option(
            AGGREGATION, "Bad clients assumed (0: as many as it can tolerate)", 0, validators.non_negative
        )
        krum_keep: int = option(AGGREGATION, "How many of the best are averaged", 1, validators.positive)

        def check(self, clients: int) -> None:
            """Of fewer than ``2 f + 3`` clients f bad ones cannot be told."""
            if self.krum_f and clients < 2 * self.krum_f + 3:
                raise FedummError(f"--krum_f {self.krum_f} needs at least {2 * self.krum_f + 3} clients in a round.")

    options: Options

    def finish(self) -> AggregationResult:
        """The winners' mean; reports how many they are, and f."""
        updates = self.ordered()
        count = len(updates)
        most = max(0, (count - 3) // 2)
        f = min(self.options.krum_f or most, most)
        keep = min(self.options.krum_keep, count - f) if count > 2 else count
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
