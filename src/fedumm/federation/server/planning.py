"""The next task: who trains, who only scores, whether images are drawn, what the hosts are told."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fedumm.config import FederateConfig
from fedumm.federation.protocol.messages import RoundTask
from fedumm.federation.server.participants import Participants
from fedumm.federation.server.round_aggregation import Broadcast, RoundAggregation
from fedumm.federation.server.sampling import Sampler
from fedumm.federation.server.state import RunState


def is_last(state: RunState, config: FederateConfig) -> bool:
    """Whether the last finished round is the last one of the run: of ``--num_rounds``, or by ``--patience``.

    What a round made is scored in the next one: after round n, versions 0 to n - 1 are.
    """
    scored, best = state.round - 1, state.scoreboard.best
    tired = 0 < config.patience <= scored - best and best >= 0
    return state.round >= config.num_rounds or tired or state.ended


class Planner:
    """Makes the tasks of one run.

    Args:
        config: the run's options.
        participants: who takes part.
        aggregation: knows which factors are trained in a round.
        sampler: who trains in a round.
        refused: hosts that are not asked any more.
    """

    def __init__(
        self,
        config: FederateConfig,
        participants: Participants,
        aggregation: RoundAggregation,
        sampler: Sampler,
        refused: Collection[str] = (),
    ) -> None:
        self.config, self._participants, self._aggregation = config, participants, aggregation
        self._sampler, self._refused = sampler, refused

    def plan(self, state: RunState, broadcast: Broadcast) -> RoundTask:
        """The task after the last finished round; after the last one of all, one that only scores.

        Args:
            broadcast: what the hosts have to be told.
        """
        number, panel = state.round + 1, state.scoreboard.panel
        train = not is_last(state, self.config)
        roster = self._roster()
        chosen = set(self._sampler(number, roster) if train else self._last_scorers(panel)) & set(roster)
        scorers = (set(panel or ()) & set(roster)) - chosen if train else set()
        return RoundTask(
            round=number,
            train=train,
            adapter=broadcast.adapter,
            assignments=self._participants.by_host(chosen),
            draw=self._draws(number, train),
            factors="".join(sorted(self._aggregation.factors(number))),
            change=broadcast.change,
            control=broadcast.control,
            last_accepted_round={
                client: last for client, last in state.last_accepted_round.items() if client in chosen | scorers
            },
            base_round=broadcast.base_round,
            scorers=self._participants.by_host(scorers),
        )

    def _roster(self) -> list[str]:
        gone = [c for host in self._refused for c in self._participants.assignments.get(host, ())]
        return [client for client in self._participants.roster if client not in gone]

    def _draws(self, number: int, train: bool) -> bool:
        """Images are drawn and judged before the first round, after the last, and as often as asked for."""
        every = self.config.geneval_every
        return number == 1 or not train or (every > 0 and (number - 1) % every == 0)

    def _last_scorers(self, panel: Sequence[str] | None) -> Sequence[str]:
        """Who scores the last version. Clients with factors of their own save their adapters then."""
        return panel if panel is not None and self._aggregation.shares_all else self._participants.roster
