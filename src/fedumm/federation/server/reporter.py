"""Tells listeners what happens in a run: records, the split of the data, adapters."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fedumm.adapters import AdapterState
from fedumm.config import FederateConfig
from fedumm.federation.protocol.masked_sum import least_threshold
from fedumm.federation.protocol.messages import ClientUpdate, InitReply, RoundReply, RoundTask
from fedumm.federation.protocol.versions import version_notes
from fedumm.federation.server.metrics_records import (
    client_record,
    folded_record,
    note_record,
    round_record,
    setup_record,
)
from fedumm.federation.server.participants import Participants, in_order
from fedumm.federation.server.rejection import Rejection
from fedumm.federation.server.round_aggregation import Report, RoundAggregation
from fedumm.federation.server.screening import Screened
from fedumm.federation.server.state import RunState
from fedumm.formatting import bounded_text, masked_text
from fedumm.privacy.plan import DPPlan
from fedumm.run_events import AdapterEvent, Listeners, PartitionEvent, Record, RunListener
from fedumm.texts import one_line


class Reporter:
    """Of one run.

    Attributes:
        records: how many records the run has so far, also those before it was resumed.

    Args:
        config: the run's options.
        participants: who takes part.
        aggregation: holds the global adapter.
        state: of the run; it is read only.
        dp: None without differential privacy.
        adapter_config: PEFT's configuration of the adapter.
        listeners: are told in this order.
    """

    def __init__(
        self,
        config: FederateConfig,
        participants: Participants,
        aggregation: RoundAggregation,
        state: RunState,
        dp: DPPlan | None,
        adapter_config: Mapping[str, Any],
        listeners: Sequence[RunListener],
    ) -> None:
        self.config, self._participants, self._aggregation, self._state = config, participants, aggregation, state
        self._dp, self._adapter_config, self._listeners = dp, adapter_config, Listeners(listeners)
        self.records = 0

    def report(self, event: str, **fields: Any) -> None:
        """A record of these fields."""
        self._tell({"event": event, **fields})

    def report_partition(self) -> None:
        """How the data are split."""
        own = self._participants
        self._listeners.on_partition(PartitionEvent(own.method, own.fingerprint, own.clients))

    def report_setup(self, answers: Mapping[str, InitReply], one_machine: bool) -> None:
        """All hosts are ready."""
        record = setup_record(self._participants, answers, self._state.scoreboard.panel, self._noise(), one_machine)
        self._tell({**record, "seconds": round(self._state.elapsed, 3)})

    def report_versions(self, round_number: int, answers: Mapping[str, InitReply]) -> None:
        """Which hosts have other versions of what bits depend on; those whose first adapter differs are refused."""
        for host, text in version_notes({host: ready.versions for host, ready in answers.items()}).items():
            self.report("note", round=round_number, host=host, text=text)

    def report_terms(self) -> None:
        """What ``--round_minutes`` and ``--secure_aggregation`` mean to this run, if it has them."""
        if minutes := self.config.round_minutes:
            self.report("round_minutes", minutes=minutes, text=bounded_text(minutes, self.config.weights))
        if self.config.secure_aggregation:
            clients = self.config.clients_per_round or len(self._participants.clients)
            needed = max(least_threshold(clients), self.config.min_clients)
            self.report("masked", needed=needed, clients=clients, text=masked_text(needed, clients))

    def report_notes(self, task: RoundTask, answers: Mapping[str, RoundReply]) -> None:
        """What hosts have to say beside their updates."""
        if folded := folded_record(task, answers.values()):
            self._tell(folded)
        for host, reply in answers.items():
            for text in reply.notes:
                self._tell(note_record(task, host, text))

    def report_tests(self, task: RoundTask, problems: Mapping[str, str], missing: Sequence[str]) -> None:
        """Why hosts' scores of the common test set are not used, and whose are not there."""
        for host, problem in problems.items():
            self._tell(note_record(task, host, f"its scores of the common test set are rejected: {problem}"))
        for host in missing:
            text = "its part of the common test is missing: this score is of the others' rows, unlike other rounds'"
            self._tell(note_record(task, host, text))

    def report_clients(self, task: RoundTask, updates: Mapping[str, ClientUpdate], screened: Screened) -> None:
        """Whose updates are used, and why others are not."""
        for client in in_order(task.assignments.values()):
            rejection, norm = screened.rejected.get(client), screened.norms.get(client)
            cosine = screened.cosines.get(client)
            self._tell(client_record(task, client, updates.get(client), rejection, norm, cosine))
        for client, one in screened.accepted.items():
            if (steps := one.update.steps) < one.expected.steps:
                self.report("cut", round=task.round, client=client, steps=steps, planned=one.expected.steps)
        for client, text in screened.unusual.items():
            self.report("unusual", round=task.round, client=client, text=text)

    def report_rejected_scores(
        self, task: RoundTask, updates: Mapping[str, ClientUpdate], rejected: Mapping[str, Rejection]
    ) -> None:
        """Why the scores of clients that only score are not used."""
        for client, rejection in rejected.items():
            self._tell(client_record(task, client, updates.get(client), rejection))

    def report_round(
        self,
        task: RoundTask,
        used: Sequence[ClientUpdate],
        answers: Mapping[str, RoundReply],
        extra_bytes: int,
        began: float,
        report: Report,
    ) -> None:
        """A round is aggregated.

        Args:
            used: the accepted updates.
            extra_bytes: what hosts were sent that had to catch up.
            began: when the round began, by :func:`time.monotonic`.
            report: numbers of the aggregation.
        """
        tasks = {name: own["tasks"] for name, own in self._participants.clients.items()}
        roster, scoreboard = len(self._participants.roster), self._state.scoreboard
        self._tell(
            round_record(task, used, [reply.seconds for reply in answers.values()], tasks, extra_bytes)
            | scoreboard[task.round - 1]
            | {
                "rounds": self.config.num_rounds,
                "roster": roster,
                "clients_per_round": self.config.clients_per_round or roster,
                "best_round": scoreboard.best,
                **report,
                "epsilon": self._epsilon(task.round),
                "seconds": round(time.monotonic() - began, 3),
                "elapsed": round(self._state.elapsed, 3),
            }
        )

    def report_absent(self, left_out: Mapping[str, str], not_ready: Mapping[str, str]) -> None:
        """Who is not there in the first round, by host with the reason; and who has withdrawn."""
        name = one_line(self.config.repeats, 100)
        withdrawn = f"it has withdrawn (--without){f': {name} is repeated without it' if name else ''}"
        for host, reason in (dict.fromkeys(self.config.withdrawn, withdrawn) | dict(left_out)).items():
            self.report("left_out", host=host, reason=reason)
        for host, reason in not_ready.items():
            self.report("not_ready", host=host, reason=reason)

    def report_adapter(
        self, which: Literal["best", "last"], version: int, scores: Record, earlier: AdapterState | None = None
    ) -> None:
        """The global adapter as it is now, ``version`` rounds old; ``scores`` are empty as long as it has none.

        Args:
            earlier: of an earlier version, its tensors; of methods that leave the backbone as it is.
        """
        state, adapter_config, cut = self._aggregation.export(self._adapter_config)
        state = earlier or state
        self._listeners.on_adapter(
            AdapterEvent(
                which=which,
                version=version,
                state=state,
                adapter_config=adapter_config,
                scores=scores,
                epsilon=self._epsilon(version),
                rank=adapter_config["r"] if self._aggregation.aggregator.updates_base_model else None,
                cut=cut,
                complete=self._aggregation.shares_all,
            )
        )

    def report_summary(self) -> None:
        """The run is over."""
        result = self._state.scoreboard.summary()
        seconds = round(self._state.elapsed, 3)
        self.report("summary", roster=len(self._participants.roster), **result, seconds=seconds)

    def _tell(self, record: Record) -> None:
        self.records += 1
        self._listeners.on_record(record)

    def _epsilon(self, rounds: int) -> float | None:
        return self._dp.epsilon(rounds) if self._dp else None

    def _noise(self) -> dict[str, float] | None:
        if self._dp is None:
            return None
        spec = self._aggregation.spec
        return self._dp.noise_on_mean(sum(math.prod(spec[name][0]) for name in self._aggregation.names(1)))
