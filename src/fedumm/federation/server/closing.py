"""The closing task: the best adapter is drawn with, where that was not done while it was the latest."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fedumm.adapters import AdapterState, check_state, encode
from fedumm.adapters.state import part, under
from fedumm.federation.protocol.messages import RoundTask, TensorPayload
from fedumm.federation.protocol.transfer import WHOLE
from fedumm.federation.server.participants import Participants
from fedumm.federation.server.round_aggregation import RoundAggregation
from fedumm.federation.server.scoreboard import Scoreboard
from fedumm.tasks import GENEVAL

_BEST = "best."


class Closing:
    """Keeps the best adapter as long as nothing was drawn with it, and makes the task that does.

    Not where a method changes the backbone: hosts can't take back by how much it grew since.

    Attributes:
        adapter: the tensors that are kept; empty if there is nothing to do.

    Args:
        participants: who takes part.
        aggregation: holds the global adapter.
        scoreboard: knows which version is the best, and what was drawn with it.
    """

    def __init__(self, participants: Participants, aggregation: RoundAggregation, scoreboard: Scoreboard) -> None:
        self._participants, self._aggregation, self._scoreboard = participants, aggregation, scoreboard
        self.adapter: AdapterState = {}

    def keep(self, version: int) -> None:
        """The global adapter, which is ``version``, is the best one now."""
        draws = GENEVAL.name in self._scoreboard[0]["test_tasks"]
        known = GENEVAL.name in self._scoreboard[version]["test_tasks"]
        kept = draws and not known and not self._aggregation.aggregator.updates_base_model
        self.adapter = {name: t.clone() for name, t in self._aggregation.adapter.items()} if kept else {}

    def task(self, round_number: int) -> RoundTask | None:
        """What comes after round ``round_number``, which scored the last version; None if nothing does."""
        if not self.adapter:
            return None
        return RoundTask(
            round=round_number,
            train=False,
            adapter=TensorPayload(WHOLE, encode(self.adapter)),
            assignments=self._participants.by_host(()),
            draw=True,
            factors="".join(sorted(self._aggregation.factors(round_number))),
            version=self._scoreboard.best,
        )

    def state(self) -> AdapterState:
        """What a resumed run needs of it."""
        return under(_BEST, self.adapter)

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore what :meth:`state` gave.

        Raises:
            ValueError: it is of another adapter, or holds NaN or infinite values.
        """
        own = part(state, _BEST)
        if own and (problem := check_state(own, self._aggregation.spec)):
            raise ValueError(problem.text)
        self.adapter = own
