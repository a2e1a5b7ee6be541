"""The server: rounds, sampling, selection of the best round, going on after a crash.

It knows no network, no model and no data: it answers "what next?" with a message for
the hosts and takes in their answers. Both runners drive this one object.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fedumm.adapters import AdapterState, check_state, decode
from fedumm.adapters.factors import spec_at_rank
from fedumm.aggregation import get_aggregator
from fedumm.backends.registry import SHIPPED
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.assignment import balanced, natural
from fedumm.federation.option_rules import check_rules
from fedumm.federation.protocol.backbone_delta import unpack_backbone_delta
from fedumm.federation.protocol.client_view import client_start, scale_of, steps_of
from fedumm.federation.protocol.initial_adapter import adapter_digest, check_alike, own_adapter_config
from fedumm.federation.protocol.messages import (
    ClientUpdate,
    DataStats,
    DataStatsRequest,
    InitReply,
    InitRequest,
    RoundReply,
    RoundTask,
)
from fedumm.federation.server.checkpoint import Checkpoint
from fedumm.federation.server.data_stats import agreed, joined
from fedumm.federation.server.metrics_records import client_record, features, folded_record, round_record, scores_record
from fedumm.federation.server.outliers import judge, unusual
from fedumm.federation.server.round_aggregation import Broadcast, RoundAggregation
from fedumm.federation.server.sampling import Sampler, panel_of, sampler_for
from fedumm.federation.server.score_validation import MOST_SAMPLES, check_test_parts, common_test_problem
from fedumm.federation.server.selection import Selection
from fedumm.federation.server.validation import (
    Accepted,
    Expected,
    RejectedError,
    digest,
    examine,
    examine_scores,
)
from fedumm.metrics.evaluation import Scores, combine
from fedumm.model_card import Facts
from fedumm.report.run_folder import STATE, RunFolder


class Server:
    """State of one federated run.

    Args:
        config: the run's options.
        assignments: host name to the names of its clients.
        store: where records and adapters go.
        sampler: who takes part in a round; by default ``config.clients_per_round`` at random.
        balance: clients may move to other hosts, so that all train about as many samples.
    """

    def __init__(
        self,
        config: FederateConfig,
        assignments: Mapping[str, Sequence[str]],
        store: RunFolder,
        sampler: Sampler | None = None,
        balance: bool = False,
    ) -> None:
        self.config, self.store, self.balance = config, store, balance
        self.assignments = {host: list(clients) for host, clients in assignments.items()}
        self.roster = sorted((c for own in self.assignments.values() for c in own), key=natural)
        self._dp = check_rules(config)
        self.sampler = sampler or sampler_for(config, self._dp)
        self.round = 0
        self._checkpoint = Checkpoint(store.path / STATE)
        self._combiner: RoundAggregation | None = None
        self._adapter_config: dict[str, Any] = {}
        self._news: Broadcast | None = None
        self._base = -1
        self._repeated = self._some_hold_nothing = False
        self._last_accepted_round: dict[str, int] = {}
        self._digests: dict[str, str] = {}
        self._records = 0
        self._clients: dict[str, dict[str, Any]] = {}
        self._split = ("", "")
        self._test_rows: dict[str, int] = {}
        self._scores: dict[int, dict[str, Any]] = {}
        self._selection = Selection(None)
        self._started = self._round_started = time.monotonic()

    @property
    def adapter(self) -> AdapterState:
        """The global adapter, as the hosts hold it."""
        return self._rounds.adapter

    @property
    def _rounds(self) -> RoundAggregation:
        if self._combiner is None:
            raise FedummError("a round was asked for before the start")
        return self._combiner

    def survey(self) -> DataStatsRequest:
        """The first message, for every host."""
        return DataStatsRequest(self.roster)

    def setup(self, answers: Mapping[str, DataStats]) -> InitRequest:
        """The second one, from the hosts' answers to the first.

        Raises:
            FedummError: hosts disagree on the data.
        """
        own = self.config.own_data
        whole = joined(answers, self.assignments) if own else agreed(answers)
        for client in self.roster:
            if not 0 < whole.clients.get(client, {"train": 0})["train"] <= MOST_SAMPLES:
                raise FedummError(f"No good number of training samples of {client}.")
        self._clients = {name: whole.clients[name] for name in self.roster}
        self._split = (whole.method, whole.fingerprint)
        if self.balance and not own:
            self.assignments = balanced({n: c["train"] for n, c in self._clients.items()}, list(self.assignments))
        hosts = sorted(self.assignments, key=natural)
        # Of one test set each scores a part, of its own all.
        tests = {host: [0, 1] if own else [i, len(hosts)] for i, host in enumerate(hosts)}
        saved = self._checkpoint.load()
        changes = self._changes(saved[1]["round"]) if saved else []
        return InitRequest(self.assignments, tests, hosts[0], changes)

    def _changes(self, rounds: int) -> list[bytes]:
        """What the backbone grew by in each of the first ``rounds`` rounds."""
        if not get_aggregator(self.config.aggregator).updates_base_model:
            return []
        changes = self._checkpoint.changes(rounds)
        for number, change in enumerate(changes, start=1):
            try:
                unpack_backbone_delta(change)
            except ValueError as error:
                raise FedummError(
                    f"The change of round {number} is damaged ({error}): this run can't go on."
                ) from error
        return changes

    def start(self, answers: Mapping[str, InitReply]) -> None:
        """Take in the hosts' answers to :meth:`setup`.

        Raises:
            FedummError: hosts disagree on the adapter's shape.
        """
        first = answers[min(answers, key=natural)]
        caches = zip(*(ready.cache for ready in answers.values()), strict=False)
        check_alike(answers, self.config)
        adapter = _first_adapter(first)
        self._adapter_config = own_adapter_config(answers, self.config)
        scale = scale_of(self._adapter_config, self.config)
        self._combiner = RoundAggregation(self.config, first.spec, adapter, scale, self._dp)
        self._news = self._combiner.first()
        self._test_rows = {host: answers[host].test_samples for host in sorted(answers, key=natural)}
        if not self.config.own_data:
            check_test_parts(self._test_rows)
        if not self._dp:
            # Choosing by scores that are not private would tell of them.
            self._selection = Selection(panel_of(self._clients, self._per_round, self.config.seed))
        self.store.describe(*self._split, self._clients)
        if self._resume():
            return
        self.store.record(
            {
                "event": "setup",
                "hosts": {
                    host: {"clients": self.assignments[host], "device": r.device, "versions": r.versions}
                    for host, r in answers.items()
                },
                "clients": {
                    name: {k: c[k] for k in ("train", "heldout", "tasks")} for name, c in self._clients.items()
                },
                "panel": self._selection.panel,
                "test_samples": sum(r.test_samples for r in answers.values()),
                "trainable": first.trainable,
                "total": first.total,
                "adapter_bytes": len(first.adapter),
                "noise": self._noise(),
                "features": [asdict(features(own, self.balance)) for own in caches],
                "seconds": round(time.monotonic() - self._started, 3),
            }
        )

    def _resume(self) -> bool:
        """Go on after the last finished round, if there is one."""
        saved = self._checkpoint.load()
        if saved is None:
            return False
        tensors, facts = saved
        if facts["fingerprint"] != self._split[1]:
            raise FedummError("The data are not those that this run began with: it can't go on.")
        self.round = facts["round"]
        self._selection.load(facts["best"])
        self._scores = {int(version): scores for version, scores in facts["scores"].items()}
        self._last_accepted_round, self._digests, self._records = (
            facts["last_accepted_round"],
            facts["digests"],
            facts["records"],
        )
        self._started = time.monotonic() - facts["elapsed"]
        try:
            self._rounds.load(tensors, self._changes(self.round))
        except ValueError as error:
            raise FedummError(f"The run's state does not fit its options ({error}): it can't go on.") from error
        self._news = self._rounds.everything()
        self.store.record({"event": "resumed", "round": self.round, "elapsed": facts["elapsed"]})
        return True

    def _save(self, finished: int) -> None:
        facts = {
            "round": finished,
            "fingerprint": self._split[1],
            "best": self._selection.facts(),
            "scores": self._scores,
            "last_accepted_round": self._last_accepted_round,
            "digests": self._digests,
            "elapsed": time.monotonic() - self._started,
            "records": self._records,
        }
        self._checkpoint.save(self._rounds.state(), facts)

    def next_task(self) -> RoundTask | None:
        """The next round, after the last one a round that only scores, then None."""
        if self.round > self.config.num_rounds:
            return None
        self.round += 1
        train = self.round <= self.config.num_rounds
        chosen = set(self.sampler(self.round, self.roster) if train else self._last_scorers())
        scorers = set(self._selection.panel or ()) - chosen if train else set()
        self._round_started = time.monotonic()
        every = self.config.geneval_every
        draw = self.round == 1 or not train or (every > 0 and (self.round - 1) % every == 0)
        news, base = self._told()
        factors = "".join(sorted(self._rounds.factors(self.round)))
        last_accepted_round = {
            client: last for client, last in self._last_accepted_round.items() if client in chosen | scorers
        }
        return RoundTask(
            round=self.round,
            train=train,
            adapter=news.adapter,
            assignments=self._on_hosts(chosen),
            draw=draw,
            factors=factors,
            change=news.change,
            control=news.control,
            last_accepted_round=last_accepted_round,
            base_round=base,
            scorers=self._on_hosts(scorers),
        )

    def lost(self, hosts: Collection[str]) -> None:
        """Hosts that gave no answer: they may have been started again, and hold nothing."""
        self._some_hold_nothing |= bool(hosts)

    def _told(self) -> tuple[Broadcast, int]:
        """What all hosts have to be told, and the round whose result they must hold for it; -1: any, or nothing."""
        if self._some_hold_nothing and not self._rounds.aggregator.updates_base_model:
            self._some_hold_nothing = False
            return self._rounds.everything(), -1
        return (self._news, self._base) if self._news else (self._rounds.nothing(), self.round - 1)

    def _on_hosts(self, clients: Collection[str]) -> dict[str, list[str]]:
        return {host: [c for c in own if c in clients] for host, own in self.assignments.items()}

    def _named(self, clients: Mapping[str, Sequence[str]]) -> list[str]:
        """The clients of all hosts, in the roster's order."""
        return sorted((client for own in clients.values() for client in own), key=natural)

    @property
    def _per_round(self) -> int:
        """Clients that train in a round."""
        return self.config.clients_per_round or len(self.roster)

    def _last_scorers(self) -> Sequence[str]:
        """Who scores the last version. Clients with factors of their own save their adapters then."""
        whole = self._rounds.aggregator.communicated_factors == frozenset("AB")
        return self._selection.panel if self._selection.panel is not None and whole else self.roster

    def finish(self, task: RoundTask, answers: Mapping[str, RoundReply]) -> None:
        """Check, score, average and save one round.

        Raises:
            FedummError: too few usable updates, for the second time.
        """
        self._news = None
        if folded := folded_record(task, answers.values()):
            self.store.record(folded)
        updates: dict[str, ClientUpdate] = {}
        for host, reply in answers.items():
            for text in reply.notes:
                self.store.record({"event": "note", "round": task.round, "host": host, "text": text})
            for update in reply.updates:
                if update.client in self.assignments.get(host, ()):
                    updates.setdefault(update.client, update)
        asked = self._named(task.assignments)
        test = combine(self._tests(task, answers))
        if not task.train:
            self._score(task, self._scored(task, asked, updates), test)
            # Should the run be given more rounds: the best one may be another now.
            self._save(task.round - 1)
            self.store.record({"event": "final", "round": task.round - 1, **self._scores[task.round - 1]})
            return
        good = self._accept(task, asked, updates)
        needed = 0 if self._dp and self._dp.mode == "central" else self.config.min_clients
        if len(good) < needed:
            self._repeat(task, len(good))
            return
        self._repeated = False
        trained = {one.update.client: one.update.before for one in good}
        self._score(task, trained | self._scored(task, self._named(task.scorers), updates), test)
        self._aggregate(task, good, [reply.seconds for reply in answers.values()])

    def _tests(self, task: RoundTask, answers: Mapping[str, RoundReply]) -> list[Scores]:
        """The hosts' scores of the common test set that can be."""
        good = []
        for host, reply in answers.items():
            first = list(self._test_rows).index(host)
            images = len(range(first, self.config.geneval_prompts, len(self._test_rows))) if task.draw else 0
            problem = common_test_problem(reply.test, self.config.tasks, self._test_rows[host], images, self._unit)
            if problem:
                text = f"its scores of the common test set are left out: {problem}"
                self.store.record({"event": "note", "round": task.round, "host": host, "text": text})
            else:
                good.append(reply.test)
        return good

    def _repeat(self, task: RoundTask, found: int) -> None:
        """Once more with the same clients, who may have failed for a passing reason; not a third time."""
        # A second update with other noise would cost privacy again.
        if self._repeated or self._dp:
            raise FedummError(
                f"Round {task.round}: {found} usable update(s), and --min_clients {self.config.min_clients}. The "
                "reasons are in metrics.jsonl. The last good state is kept: mend the cause and go on."
            )
        self._repeated = True
        self.round -= 1
        self.store.record({"event": "repeat", "round": task.round, "usable": found, "needed": self.config.min_clients})

    @property
    def _unit(self) -> bool:
        """Whether scores are shares of 1; a backend of a user's own may have another unit."""
        return self.config.model_backend in SHIPPED

    def _score(self, task: RoundTask, scores: Mapping[str, Scores], test: Scores) -> None:
        """Take in what clients say of the adapter that the round started from, and keep it if it is the best one."""
        version, panel = task.round - 1, self._selection.panel
        judges = self._named(task.assignments) if panel is None else panel
        own = {client: scores[client] for client in judges if scores.get(client)}
        asked = () if self.config.dp == "local" else judges
        missing = [client for client in asked if client not in own and self._clients[client]["heldout"]]
        self._scores[version] = scores_record(own, missing, test)
        if self._selection.offer(version, own):
            self._save_adapter("best", version, self._scores[version])
        kept = {0, self._selection.version, version}
        self._scores = {number: record for number, record in self._scores.items() if number in kept}

    def _save_adapter(self, which: str, version: int, scores: Mapping[str, Any]) -> None:
        state, config, cut = self._rounds.exported(self._adapter_config)
        method = self._rounds.aggregator
        facts = Facts(
            epsilon=self._epsilon(version),
            rank=config["r"] if method.updates_base_model else None,
            cut=cut,
            whole=method.communicated_factors == frozenset("AB"),
        )
        self.store.save_adapter(which, state, config, version, scores, facts)

    def _noise(self) -> dict[str, float] | None:
        """About how long the noise on a round's mean update is, and how long that can be without it."""
        if self._dp is None:
            return None
        values = sum(math.prod(self._rounds.spec[name][0]) for name in self._rounds.names(1))
        clients = self._dp.expected if self._dp.mode == "central" else math.sqrt(self._dp.expected)
        return {"norm": self._dp.std * math.sqrt(values) / clients, "clip": self._dp.clip}

    def _epsilon(self, rounds: int) -> float | None:
        """What ``rounds`` rounds have cost of privacy; None without a plan for it."""
        return self._dp.accountant.epsilon(rounds) if self._dp else None

    def _accept(self, task: RoundTask, asked: list[str], updates: Mapping[str, ClientUpdate]) -> list[Accepted]:
        """The updates that can be used, in the roster's order; every client's record is written."""
        good: dict[str, Accepted] = {}
        problems: dict[str, str] = {}
        for client in asked:
            try:
                good[client] = examine(updates.get(client), self._expected(task, client))
            except RejectedError as error:
                problems[client] = str(error)
        examined = dict(good)
        # With noise at the server clipping takes its place: one client's fate must not depend on another's data.
        told: dict[str, str] = {}
        if not (self._dp and self._dp.mode == "central"):
            judge(good, problems, self.config)
            told = unusual(list(good.values()))
        for client in asked:
            parts = updates.get(client), problems.get(client), examined.get(client)
            self.store.record(client_record(task, client, *parts))
        for client, text in told.items():
            self.store.record({"event": "unusual", "round": task.round, "client": client, "text": text})
        return list(good.values())

    def _scored(
        self, task: RoundTask, clients: Sequence[str], updates: Mapping[str, ClientUpdate]
    ) -> dict[str, Scores]:
        """What those say that had nothing to do but to score; a record is written of those who can't be believed."""
        scores = {}
        for client in clients:
            update = updates.get(client)
            try:
                scores[client] = examine_scores(update, self._expected(task, client)).before
            except RejectedError as error:
                self.store.record(client_record(task, client, update, str(error), None))
        return scores

    def _expected(self, task: RoundTask, client: str) -> Expected:
        config, facts, rounds = self.config, self._clients[client], self._rounds
        steps = steps_of(config, facts["train"])
        spec = rounds.spec if config.equal_ranks else spec_at_rank(rounds.spec, config.rank_of(client))
        return Expected(
            task.round, spec, rounds.names(task.round), client_start(rounds.adapter, config, client),
            facts["train"], facts["heldout"], facts["tasks"], steps, config.up, config.top_k,
            frozenset(config.tasks), self._unit,
            config.scaffold, self._digests.get(client, ""), config.dp == "local",
        )  # fmt: skip

    def _aggregate(self, task: RoundTask, good: list[Accepted], seconds: list[float]) -> None:
        news = self._news = self._rounds.combine(task.round, good, len(self.roster))
        self._base = task.round - 1
        self._last_accepted_round |= {one.update.client: task.round for one in good}
        self._digests |= {one.update.client: digest(one.update) for one in good}
        if self._rounds.aggregator.updates_base_model:
            # Also an empty one: a try of this round that was cut off may have left another.
            self._checkpoint.save_change(task.round, news.change)
        now = time.monotonic()
        self.store.record(
            round_record(task, [one.update for one in good], seconds, {n: c["tasks"] for n, c in self._clients.items()})
            | self._scores[task.round - 1]
            | {
                "rounds": self.config.num_rounds,
                "roster": len(self.roster),
                "clients_per_round": self._per_round,
                "best_round": self._selection.version,
                **news.report,
                "epsilon": self._epsilon(task.round),
                "seconds": round(now - self._round_started, 3),
                "elapsed": round(now - self._started, 3),
            }
        )
        self._records = self.store.records_bytes()
        # Nobody sees the adapter of a round that might have to be done again, with other noise.
        self._save(task.round)
        self._save_adapter("last", task.round, {})

    def close(self) -> None:
        """Write the closing summary."""
        best, last = self._selection.version, max(self._scores)
        if last:
            # Written before its score was known.
            self._save_adapter("last", last, self._scores[last])
        self.store.record(
            {
                "event": "summary",
                "roster": len(self.roster),
                "untrained": {"round": 0, **self._scores[0]},
                "best": {"round": best, **self._scores[best]},
                "last": {"round": last, **self._scores[last]},
                "seconds": round(time.monotonic() - self._started, 3),
            }
        )


def _first_adapter(ready: InitReply) -> AdapterState:
    """The adapter that everybody starts from.

    Raises:
        FedummError: it is not what the host says of it.
    """
    try:
        state = decode(ready.adapter)
    except ValueError as error:
        raise FedummError(f"The first adapter can't be read: {error}") from error
    if problem := check_state(state, ready.spec):
        raise FedummError(f"The first adapter is damaged: {problem}.")
    if adapter_digest(state) != ready.digest:
        raise FedummError("The first adapter is not the one that all hosts derive.")
    return state
