"""The server: it asks, screens, selects, aggregates and saves, round by round, through the modules beside it.

It knows no network, no model, no data and no run folder: it answers "what next?" with a message for the hosts, takes
in their answers, and tells listeners what happened. Both runners drive this one object.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from fedumm.adapters import AdapterState
from fedumm.compression.registry import load_codecs
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.option_rules import check_rules
from fedumm.federation.protocol.messages import (
    ClientUpdate,
    DataStats,
    DataStatsRequest,
    InitReply,
    InitRequest,
    RoundReply,
    RoundTask,
)
from fedumm.federation.server.catching_up import Beginning, CatchUp
from fedumm.federation.server.checkpoint import Checkpoint
from fedumm.federation.server.closing import Closing
from fedumm.federation.server.handshake import agree, init_request, unfit
from fedumm.federation.server.masked_round import MaskedRound
from fedumm.federation.server.participants import Participants, find_participants, in_order
from fedumm.federation.server.planning import Planner
from fedumm.federation.server.rejection import Rejection, too_few
from fedumm.federation.server.reporter import Reporter
from fedumm.federation.server.round_aggregation import Broadcast, RoundAggregation
from fedumm.federation.server.sampling import Sampler, sampler_for
from fedumm.federation.server.scoreboard import Scoreboard, scoreboard_for
from fedumm.federation.server.screening import Screening
from fedumm.federation.server.state import RunState, SavedRun, load_saved_run
from fedumm.metrics.evaluation import Scores, combine, summary
from fedumm.run_events import RunListener
from fedumm.tasks import GENEVAL


class Server:
    """One federated run: :meth:`survey`, :meth:`setup` and :meth:`start`, then :meth:`next_task` and :meth:`finish`
    until there is no next one, then :meth:`close`.

    Attributes:
        adapter: the global adapter, as the hosts hold it.
        aggregation: makes the next one of a round's updates.
        scoreboard: what the versions so far scored.
        refused: hosts that came back with other data or another model, and why.

    Args:
        config: the run's options.
        assignments: host name to the names of its clients.
        folder: where the run's state is saved, and found if it is resumed.
        listeners: are told what happens, in this order.
        sampler: who takes part in a round; by default ``config.clients_per_round`` at random.
        balance: clients may move to other hosts, so that all train about as many samples.
    """

    def __init__(
        self,
        config: FederateConfig,
        assignments: Mapping[str, Sequence[str]],
        folder: Path,
        listeners: Sequence[RunListener] = (),
        sampler: Sampler | None = None,
        balance: bool = False,
    ) -> None:
        self.config, self.balance, self._listeners = config, balance, listeners
        self.assignments = {host: list(clients) for host, clients in assignments.items()}
        self.roster = in_order(self.assignments.values())
        self._dp = check_rules(config)
        load_codecs(config.up, config.down)
        self._sampler = sampler or sampler_for(config, self._dp)
        self._checkpoint = Checkpoint(folder)
        self._began = self._round_began = time.monotonic()
        self._repeated_round = 0
        self._last_is_scored = False
        self._left_out: dict[str, str] = {}
        self._not_ready: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        # From setup() on:
        self._participants: Participants
        self._sizes: Mapping[str, DataStats]
        self._request: InitRequest
        self._saved: SavedRun | None
        # From start() on:
        self.aggregation: RoundAggregation
        self.scoreboard: Scoreboard
        self._beginning: Beginning
        self._closing: Closing
        self._planner: Planner
        self._screening: Screening
        self._state: RunState
        self._reporter: Reporter
        self._broadcast: Broadcast  # what the hosts have to be told with the next task

    @property
    def adapter(self) -> AdapterState:  # noqa: D102 (an attribute of the class)
        return self.aggregation.adapter

    def survey(self) -> DataStatsRequest:
        """The first message, for every host."""
        return DataStatsRequest(self.roster)

    def leave_out(self, reasons: Mapping[str, str]) -> None:
        """The run goes on without these hosts, which can't begin.

        Args:
            reasons: by host.

        Raises:
            FedummError: too few are left.
        """
        self._left_out |= reasons
        self.assignments = {host: own for host, own in self.assignments.items() if host not in reasons}
        left = len(in_order(self.assignments.values()))
        if left < self.config.min_clients:
            why = "".join(f"\n  {host}: {reason}" for host, reason in self._left_out.items())
            raise FedummError(
                f"{left} of {len(self.roster)} clients can take part, and --min_clients is "
                f"{self.config.min_clients}.{why}"
            )

    def note_not_ready(self, reasons: Mapping[str, str]) -> None:
        """These hosts could not be set up; each may be in a later round."""
        self._not_ready |= reasons

    def setup(self, answers: Mapping[str, DataStats]) -> InitRequest:
        """The second one, from the hosts' answers to the first.

        Raises:
            FedummError: hosts disagree on the data, or what was saved of the run is damaged.
        """
        self._participants = find_participants(self.config, self.assignments, answers, self.balance)
        self.assignments = self._participants.assignments
        self._saved = load_saved_run(self._checkpoint, self.config)
        self._sizes = answers
        changes = self._saved.changes if self._saved else []
        self._request = init_request(self._participants, self.config.own_data, changes)
        return self._request

    def alike(self, answers: Mapping[str, InitReply]) -> dict[str, InitReply]:
        """Those of sites' answers to :meth:`setup` that agree; the run goes on without the other sites.

        Raises:
            FedummError: there is no majority, or too few are left.
        """
        reasons = unfit(answers, self.config)
        self.leave_out(reasons)
        self._participants = self._participants.without(reasons)
        return {host: answer for host, answer in answers.items() if host not in reasons}

    def start(self, answers: Mapping[str, InitReply]) -> None:
        """Take in the hosts' answers to :meth:`setup`.

        Raises:
            FedummError: no host is ready, hosts disagree on the adapter's shape, or what was saved is not of this run.
        """
        if not answers:
            why = "".join(f"\n  {host}: {reason}" for host, reason in self._not_ready.items())
            raise FedummError(f"No site is ready for the first round.{why}")
        config, participants = self.config, self._participants
        initial = agree(answers, self._request, config)
        self._beginning = Beginning(self.survey(), self._sizes, self._request, initial.reply)
        self.aggregation = RoundAggregation(config, initial.spec, initial.adapter, initial.scale, self._dp)
        self.scoreboard = scoreboard_for(config, participants.clients)
        self._state = RunState(participants.fingerprint, participants.fingerprints, self.scoreboard, self._began)
        self._closing = Closing(participants, self.aggregation, self.scoreboard)
        self._planner = Planner(config, participants, self.aggregation, self._sampler, self.refused)
        # The test rows of a site that was left out are nobody else's, where each has its own.
        tests = {h: own for h, own in self._request.tests.items() if h in self.assignments or not config.own_data}
        self._screening = Screening(config, participants, self.aggregation, tests, initial.test_rows)
        self._reporter = Reporter(
            config, participants, self.aggregation, self._state, self._dp, initial.adapter_config, self._listeners
        )
        self._reporter.report_partition()
        if self._saved:
            self._resume(self._saved)
            self._saved = None
        else:
            self._broadcast = self.aggregation.first_broadcast()
            self._reporter.report_setup(answers, self.balance)
        self._reporter.report_versions(self._state.round, answers)
        self._reporter.report_terms()
        self._reporter.report_absent(self._left_out, self._not_ready)

    def _resume(self, saved: SavedRun) -> None:
        """Resume after the last finished round."""
        self._state.load(saved.facts, self.config.withdrawn)
        try:
            self.aggregation.load(saved.tensors, saved.changes)
            self._closing.load(saved.tensors)
        except ValueError as error:
            raise FedummError(f"The run's state does not fit its options ({error}): it can't be resumed.") from error
        self._broadcast = self.aggregation.whole_broadcast()
        self._reporter.records = self._state.records
        self._reporter.report("resumed", round=self._state.round, elapsed=saved.facts["elapsed"])

    def next_task(self) -> RoundTask | None:
        """The next round, after the last one a round that only scores; then, where nothing was drawn with the best
        version, a task that only does that; then None."""
        if self._last_is_scored:
            return self._closing.task(self._state.round + 1)
        self._round_began = time.monotonic()
        task = self._planner.plan(self._state, self._broadcast)
        if not task.train and self._state.round < self.config.num_rounds:
            self._state.ended = True
            self._reporter.report("patience", round=self._state.round, best=self.scoreboard.best)
        return task

    def masked_round(self, task: RoundTask) -> MaskedRound | None:
        """What sums the round's updates without reading one; None where they are not masked."""
        if not (self.config.secure_aggregation and task.train):
            return None
        names, rows = self.aggregation.names(task.round), self._participants.rows
        return MaskedRound(self.config, task, rows, self.aggregation.spec, names)

    def usable(self, task: RoundTask, answers: Mapping[str, RoundReply]) -> list[ClientUpdate]:
        """The updates of a round that are no failures."""
        screened = self._screening.screen(task, self._screening.collect(answers), self._state.digests)
        return [one.update for one in screened.accepted.values()]

    def refuse(self, reasons: Mapping[str, str]) -> None:
        """Leave hosts out from now on, which came back otherwise than they began."""
        self.refused |= reasons
        for host, reason in reasons.items():
            self._reporter.report("left_out", host=host, reason=reason)

    def catch_up(self, task: RoundTask) -> CatchUp:
        """What follows up hosts' answers to ``task`` where these can't take part as they are."""
        grows = self.aggregation.aggregator.updates_base_model
        changes = partial(self._checkpoint.changes, self._state.round) if grows else None
        rows = self._screening.test_rows
        return CatchUp(self._beginning, task, self.aggregation.whole_broadcast, changes, rows)

    def finish(
        self, task: RoundTask, answers: Mapping[str, RoundReply], catch_up: CatchUp | None = None,
        masked: MaskedRound | None = None,
    ) -> None:  # fmt: skip
        """Screen, score, aggregate and save one round.

        Args:
            catch_up: what has followed up the answers.
            masked: has the sum of updates that are masked.

        Raises:
            FedummError: too few usable updates, for the second time.
        """
        for host, rows in catch_up.test_rows.items() if catch_up else ():
            self._screening.expect_test_rows(host, rows)
        extra_bytes = sum(catch_up.extra_bytes.values()) if catch_up else 0
        self._reporter.report_notes(task, answers)
        updates = self._screening.collect(answers)
        tests, problems = self._screening.screen_tests(task, answers)
        self._reporter.report_tests(task, problems, self._screening.missing_tests([h for h in tests if tests[h]]))
        test = combine(list(tests.values()))
        if task.version >= 0:
            self._finish_drawing(task, len(answers), test)
        elif task.train:
            self._finish_training(task, answers, updates, test, extra_bytes, masked)
        else:
            self._finish_scoring(task, len(answers), updates, test)

    def _finish_training(
        self, task: RoundTask, answers: Mapping[str, RoundReply], updates: Mapping[str, ClientUpdate], test: Scores,
        extra_bytes: int, masked: MaskedRound | None,
    ) -> None:  # fmt: skip
        screened = self._screening.screen(task, updates, self._state.digests)
        if masked and masked.problem:
            screened.reject_all(Rejection("masked", masked.problem))
        self._reporter.report_clients(task, updates, screened)
        accepted = list(screened.accepted.values())
        if len(accepted) < (0 if self.config.dp == "central" else self.config.min_clients):
            self._repeat(task, len(accepted), screened.rejected.values())
            return
        self._select(task, screened.scores | self._scores(task, task.scorers, updates), test)
        moves, clients = masked.moves if masked else None, len(self._participants.roster)
        self._broadcast, report = self.aggregation.aggregate(task.round, accepted, clients, moves)
        if self.aggregation.aggregator.updates_base_model:
            # Also an empty one: a try of this round that was cut off may have left another.
            self._checkpoint.save_change(task.round, self._broadcast.change)
        used = [one.update for one in accepted]
        self._reporter.report_round(task, used, answers, extra_bytes, self._round_began, report)
        self._state.finish_round(task.round, accepted, self._reporter.records)
        # Nobody sees the adapter of a round that might have to be done again, with other noise.
        self._save()
        self._reporter.report_adapter("last", task.round, {})

    def _repeat(self, task: RoundTask, found: int, rejected: Iterable[Rejection]) -> None:
        """Once more with the same clients, who may have failed for a passing reason; not a third time."""
        needed = self.config.min_clients
        # A second update with other noise would cost privacy again.
        if self._repeated_round == task.round or self._dp:
            raise too_few(task.round, found, needed, rejected)
        self._repeated_round = task.round
        self._broadcast = self.aggregation.empty_broadcast(base_round=task.round - 1)
        self._reporter.report("repeat", round=task.round, usable=found, needed=needed)

    def _finish_scoring(self, task: RoundTask, hosts: int, updates: Mapping[str, ClientUpdate], test: Scores) -> None:
        self._select(task, self._scores(task, task.assignments, updates), test)
        self._last_is_scored = True
        # Should the run be given more rounds: the best one may be another now.
        self._save()
        version = task.round - 1
        self._reporter.report("final", round=version, **self.scoreboard[version], bytes_down=task.size * hosts)

    def _finish_drawing(self, task: RoundTask, hosts: int, drawn: Scores) -> None:
        """The best version has all its scores now; what could not be had is not asked for again."""
        adapter, self._closing.adapter = self._closing.adapter, {}
        own = drawn.get(GENEVAL.name)
        if own is None:
            return
        self.scoreboard.enter_drawings(task.version, own)
        self._save()
        scores = self.scoreboard[task.version]
        self._reporter.report("drawn", round=task.version, bytes_down=task.size * hosts, **summary("test", drawn))
        self._reporter.report_adapter("best", task.version, scores, adapter)

    def _scores(
        self, task: RoundTask, clients: Mapping[str, Sequence[str]], updates: Mapping[str, ClientUpdate]
    ) -> dict[str, Scores]:
        """Of clients, by host, that had nothing to do but to score."""
        scores, rejected = self._screening.screen_scores(task, in_order(clients.values()), updates)
        self._reporter.report_rejected_scores(task, updates, rejected)
        return scores

    def _select(self, task: RoundTask, scores: Mapping[str, Scores], test: Scores) -> None:
        """Take in what the adapter scored that the round started from: it may be the best one."""
        version = task.round - 1
        if self.scoreboard.enter(version, in_order(task.assignments.values()), scores, test):
            self._closing.keep(version)
            self._reporter.report_adapter("best", version, self.scoreboard[version])

    def _save(self) -> None:
        self._checkpoint.save(self.aggregation.state() | self._closing.state(), self._state.facts())

    def close(self) -> None:
        """Tell the result."""
        last = self._state.round
        if last:
            # Told before its score was known.
            self._reporter.report_adapter("last", last, self.scoreboard[last])
        self._reporter.report_summary()
