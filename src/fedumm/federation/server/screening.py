"""What of a round's replies is used, and why the rest is not: updates, scores, parts of the common test set."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from fedumm.adapters.factors import spec_at_rank
from fedumm.backends.registry import BACKENDS
from fedumm.config import FederateConfig
from fedumm.federation.protocol.client_view import client_start, steps_of
from fedumm.federation.protocol.messages import ClientUpdate, RoundReply, RoundTask
from fedumm.federation.server.outliers import directions, judge, unusual
from fedumm.federation.server.participants import Participants, in_order
from fedumm.federation.server.rejection import RejectedError, Rejection
from fedumm.federation.server.round_aggregation import RoundAggregation
from fedumm.federation.server.score_validation import common_test_problem
from fedumm.federation.server.validation import Accepted, Expected, examine, examine_scores
from fedumm.metrics.evaluation import Scores


@dataclass
class Screened:
    """The updates of a round.

    Attributes:
        accepted: those that are used, by client in the roster's order.
        rejected: why the others are not.
        norms: how long each is that passed the checks that need no other; some of these are rejected all the same.
        cosines: between each accepted one and the others' mean direction, where that is known.
        unusual: in what an accepted one is unlike the others.
    """

    accepted: dict[str, Accepted] = field(default_factory=dict)
    rejected: dict[str, Rejection] = field(default_factory=dict)
    norms: dict[str, float] = field(default_factory=dict)
    cosines: dict[str, float] = field(default_factory=dict)
    unusual: dict[str, str] = field(default_factory=dict)

    def reject_all(self, why: Rejection) -> None:
        """What was accepted can't be used after all."""
        self.rejected |= dict.fromkeys(self.accepted, why)
        self.accepted = {}

    @property
    def scores(self) -> dict[str, Scores]:
        """What clients whose updates are used say of the adapter that they started from."""
        return {client: one.update.before for client, one in self.accepted.items()}


class Screening:
    """The checks of one run, by what the server knows.

    Args:
        aggregation: knows the global adapter, and what is trained in a round.
        parts: by host, which rows of the common test set it scores: ``[i, n]`` for every n-th from i.
        test_rows: by host, how many these are, as far as it is known.
    """

    def __init__(
        self,
        config: FederateConfig,
        participants: Participants,
        aggregation: RoundAggregation,
        parts: Mapping[str, Sequence[int]],
        test_rows: Mapping[str, int],
    ) -> None:
        self.config, self._participants, self._aggregation = config, participants, aggregation
        self._parts, self._test_rows = parts, dict(test_rows)
        self._shares = scores_are_shares(config)

    @property
    def test_rows(self) -> Mapping[str, int]:
        """By host, the rows of its part of the common test set, as far as they were told."""
        return self._test_rows

    def expect_test_rows(self, host: str, count: int) -> None:
        """A host that is set up later has a part of the test set, too."""
        self._test_rows[host] = count

    def collect(self, answers: Mapping[str, RoundReply]) -> dict[str, ClientUpdate]:
        """By client, the first update that its own host has of it."""
        found: dict[str, ClientUpdate] = {}
        for host, reply in answers.items():
            for update in reply.updates:
                if update.client in self._participants.assignments.get(host, ()):
                    found.setdefault(update.client, update)
        return found

    def screen(self, task: RoundTask, updates: Mapping[str, ClientUpdate], digests: Mapping[str, str]) -> Screened:
        """The updates of those who were to train, each by itself and then against the others.

        Args:
            digests: of each client's last accepted update.
        """
        result = Screened()
        for client in in_order(task.assignments.values()):
            expected = self._expected(task, client, digests.get(client, ""))
            try:
                own = examine(updates.get(client), expected)
                if expected.masked and client not in task.masked:
                    raise RejectedError("masked", "it did not agree on masks with the others")
                result.accepted[client] = own
            except RejectedError as error:
                result.rejected[client] = error.rejection
        if self.config.secure_aggregation:
            return result
        result.norms = {client: one.norm for client, one in result.accepted.items()}
        # With noise at the server clipping takes its place: one client's fate must not depend on another's data.
        if self.config.dp != "central":
            result.accepted, rejected = judge(result.accepted, self.config)
            result.rejected |= rejected
            everybody = list(result.accepted.values())
            cosines = directions(everybody)
            result.unusual = unusual(everybody, cosines)
            # Of noisy updates it says how much noise there is.
            result.cosines = cosines if self.config.dp == "off" else {}
        return result

    def screen_scores(
        self, task: RoundTask, clients: Sequence[str], updates: Mapping[str, ClientUpdate]
    ) -> tuple[dict[str, Scores], dict[str, Rejection]]:
        """What those say who had nothing to do but to score: their scores, and why others' are not used."""
        scores: dict[str, Scores] = {}
        rejected: dict[str, Rejection] = {}
        for client in clients:
            try:
                scores[client] = examine_scores(updates.get(client), self._expected(task, client, "")).before
            except RejectedError as error:
                rejected[client] = error.rejection
        return scores, rejected

    def missing_tests(self, scored: Collection[str]) -> list[str]:
        """Hosts whose part of the common test set nobody has scored; none where no host scores any."""
        return [host for host in self._parts if host not in scored] if scored else []

    def screen_tests(
        self, task: RoundTask, answers: Mapping[str, RoundReply]
    ) -> tuple[dict[str, Scores], dict[str, str]]:
        """The hosts' scores of their parts of the common test set, and why those of others can't be."""
        scores: dict[str, Scores] = {}
        problems: dict[str, str] = {}
        for host, reply in answers.items():
            first, step = self._parts[host]
            images = len(range(first, self.config.geneval_prompts, step)) if task.draw else 0
            rows = self._test_rows.get(host, -1)  # of one that was never set up no score is right
            if problem := common_test_problem(reply.test, self.config.tasks, rows, images, self._shares):
                problems[host] = problem
            else:
                scores[host] = reply.test
        return scores, problems

    def _expected(self, task: RoundTask, client: str, previous: str) -> Expected:
        config, own, aggregation = self.config, self._participants.clients[client], self._aggregation
        spec = aggregation.spec
        return Expected(
            round=task.round,
            spec=spec if config.equal_ranks else spec_at_rank(spec, config.rank_of(client)),
            names=aggregation.names(task.round),
            start=client_start(aggregation.adapter, config, client),
            train=own["train"],
            heldout=own["heldout"],
            tasks=own["tasks"],
            steps=steps_of(config, own["train"]),
            wire=config.up,
            keep=config.top_k,
            scored=frozenset(config.tasks),
            unit=self._shares,
            control=config.scaffold,
            previous=previous,
            private=config.dp == "local",
            masked=self._aggregation.masked_size(task.round) if config.secure_aggregation else 0,
            may_be_cut=config.round_minutes > 0 and config.dp != "local",
        )


def scores_are_shares(config: FederateConfig) -> bool:
    """Whether scores are shares of 1; a backend of a user's own may have another unit."""
    return BACKENDS.is_shipped(config.model_backend)
