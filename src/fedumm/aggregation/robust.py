"""What the robust methods share: they see all updates of a round, and none of their weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from fedumm.adapters.state import AdapterState
from fedumm.aggregation.base import AggregationResult, Aggregator, ClientContribution
from fedumm.aggregation.validation import check_contribution
from fedumm.lazy import torch


class RobustAggregator(Aggregator):
    """Holds the round's updates and puts them in the order of the clients' names: memory grows with their number.

    Weights are checked but not used: a bad client would claim a large one. For the same reason a client counts
    once a round, and in every tensor: one that did not train a tensor left it where the round began. A tensor moves
    only if more than half of the clients trained it (the quorum). Otherwise a client could say that it alone had use
    for a tensor, and would be all of the "centre" there; or a few could, against fewer honest ones than they are.
    """

    linear: ClassVar[bool] = False

    def begin(self, adapter: Mapping[str, torch.Tensor], scale: float, seed: int) -> None:
        """Forget all updates."""
        self._start = {name: tensor.clone() for name, tensor in adapter.items()}
        self._updates: dict[str, AdapterState] = {}

    def add(self, contribution: ClientContribution) -> None:
        """Keep a copy of the update."""
        check_contribution(contribution, self._start)
        if contribution.client in self._updates:
            raise ValueError(f"{contribution.client} has sent an update already")
        self._updates[contribution.client] = {name: t.clone() for name, t in contribution.adapter.items()}

    def ordered(self) -> list[AdapterState]:
        """The updates in the order of their clients' names.

        Raises:
            ValueError: there are none.
        """
        if not self._updates:
            raise ValueError("no update to aggregate")
        return [update for _, update in sorted(self._updates.items())]

    def centred(self, updates: Sequence[AdapterState]) -> AdapterState:
        """The :meth:`centre` of each tensor over ``updates``, the start where one does not hold it; of a tensor
        without a quorum among all updates, the start."""
        adapter: AdapterState = {}
        for name, start in self._start.items():
            if not self._has_quorum(name):
                adapter[name] = start.clone()
                continue
            values = [update.get(name, start).double() for update in updates]
            adapter[name] = self.centre(torch.stack(values)).to(start.dtype)
        return adapter

    def _has_quorum(self, name: str) -> bool:
        return 2 * sum(name in update for update in self._updates.values()) > len(self._updates)

    def kept_back(self) -> dict[str, float]:
        """For the log: how many tensors somebody trained, and too few to move them; empty if there are none."""
        sent = {name for update in self._updates.values() for name in update}
        count = sum(not self._has_quorum(name) for name in sent)
        return {"kept_back": count} if count else {}

    def finish(self) -> AggregationResult:
        """The centre of each tensor over all clients; reports how many tensors were :meth:`kept_back`."""
        return AggregationResult(self.centred(self.ordered()), report=self.kept_back())

    @abstractmethod
    def centre(self, values: torch.Tensor) -> torch.Tensor:
        """One tensor of n ones, stacked in float64: ``(n, ...)`` to ``(...)``, n at least 1."""
