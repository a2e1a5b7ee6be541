"""The server: rounds, sampling, checking, averaging, selection of the best round.

It knows no network, no model and no data: it answers "what next?" with a message for
the hosts and takes in their answers. Both runners drive this one object.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fedumm.adapters import AdapterState, Spec, check_state, decode, encode
from fedumm.aggregation import FedAvg
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.features.report import CacheReport
from fedumm.federation.messages import HostReply, Ready, RoundTask, Setup, Sizes, Survey, Update
from fedumm.federation.topology import balanced, natural
from fedumm.report.run_folder import RunFolder
from fedumm.seeds import derive
from fedumm.training.scores import combine, summary

Sampler = Callable[[int, Sequence[str]], list[str]]
"""From the round (1, 2, ...) and the roster to the clients that take part."""


def uniform_sampler(count: int, seed: int) -> Sampler:
    """``count`` clients drawn without replacement, in the roster's order; 0 takes all."""

    def sample(round_number: int, roster: Sequence[str]) -> list[str]:
        if not count:
            return list(roster)
        chosen = random.Random(derive(seed, "clients", round_number)).sample(list(roster), count)
        return sorted(chosen, key=list(roster).index)

    return sample


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
        self.sampler = sampler or uniform_sampler(config.clients_per_round, config.seed)
        self.round = 0
        self.adapter: AdapterState = {}
        self._spec: Spec = {}
        self._clients: dict[str, dict[str, Any]] = {}
        self._split = ("", "")
        self._scores: dict[int, dict[str, Any]] = {}
        self._best: tuple[float, int] | None = None
        self._started = self._round_started = time.monotonic()

    def survey(self) -> Survey:
        """The first message, for every host."""
        return Survey(self.roster)

    def setup(self, answers: Mapping[str, Sizes]) -> Setup:
        """The second one, from the hosts' answers to the first.

        Raises:
            FedummError: hosts disagree on the data.
        """
        first = next(iter(answers.values()))
        for host, sizes in answers.items():
            if sizes.fingerprint != first.fingerprint:
                raise FedummError(f"{host} has other data: all hosts must split the same data set.")
        clients = {name: entry for sizes in answers.values() for name, entry in sizes.clients.items()}
        self._clients = {name: clients[name] for name in self.roster}
        self._split = (first.method, first.fingerprint)
        if self.balance:
            self.assignments = balanced({n: c["train"] for n, c in self._clients.items()}, list(self.assignments))
        hosts = sorted(self.assignments, key=natural)
        return Setup(self.assignments, {host: [i, len(hosts)] for i, host in enumerate(hosts)}, hosts[0])

    def start(self, answers: Mapping[str, Ready]) -> None:
        """Take in the hosts' answers to :meth:`setup`.

        Raises:
            FedummError: hosts disagree on the adapter's shape.
        """
        first = next(ready for ready in answers.values() if ready.adapter)
        caches = zip(*(ready.cache for ready in answers.values()), strict=True)
        for host, ready in answers.items():
            if ready.spec != first.spec:
                raise FedummError(f"{host} has an adapter of another shape: its model or LoRA options differ.")
        self._spec = first.spec
        self.adapter = decode(first.adapter)
        self.store.describe(first.adapter_config, *self._split, self._clients)
        self.store.record(
            {
                "event": "setup",
                "hosts": {host: {"clients": self.assignments[host], "device": r.device} for host, r in answers.items()},
                "clients": {
                    name: {k: c[k] for k in ("train", "heldout", "tasks")} for name, c in self._clients.items()
                },
                "test_samples": sum(r.test_samples for r in answers.values()),
                "trainable": first.trainable,
                "total": first.total,
                "adapter_bytes": len(first.adapter),
                "features": [asdict(_features(own, self.balance)) for own in caches],
                "seconds": round(time.monotonic() - self._started, 3),
            }
        )

    def next_task(self) -> RoundTask | None:
        """The next round, after the last one a round that only scores, then None."""
        if self.round > self.config.num_rounds:
            return None
        self.round += 1
        train = self.round <= self.config.num_rounds
        chosen = set(self.sampler(self.round, self.roster) if train else self.roster)
        assignments = {host: [c for c in own if c in chosen] for host, own in self.assignments.items()}
        self._round_started = time.monotonic()
        every = self.config.geneval_every
        draw = self.round == 1 or not train or (every > 0 and (self.round - 1) % every == 0)
        return RoundTask(self.round, train, encode(self.adapter), assignments, draw)

    def finish(self, task: RoundTask, answers: Mapping[str, HostReply]) -> None:
        """Score, check, average and save one round.

        Raises:
            FedummError: no client sent a usable update.
        """
        updates: dict[str, Update] = {}
        for host, reply in answers.items():
            for update in reply.updates:
                if update.client in self.assignments.get(host, ()):
                    updates.setdefault(update.client, update)
        asked = [c for c in self.roster if any(c in own for own in task.assignments.values())]
        heldout = combine([updates[c].before for c in asked if c in updates])
        test = combine([reply.test for reply in answers.values()])
        self._scores[task.round - 1] = summary("heldout", heldout) | summary("test", test)
        self._select(task.round - 1)
        if task.train:
            self._aggregate(task, asked, updates, [reply.seconds for reply in answers.values()])
        else:
            self.store.record({"event": "final", "round": task.round - 1, **self._scores[task.round - 1]})

    def _select(self, version: int) -> None:
        """Keep the present adapter as the best one if its held-out score is higher than any before."""
        score = self._scores[version]["heldout"]
        score = -math.inf if score is None or math.isnan(score) else score
        # Without any score the latest adapter is as good a guess as there is.
        if self._best is None or score > self._best[0] or score == -math.inf == self._best[0]:
            self._best = (score, version)
            self.store.save_adapter("best", self.adapter, version, self._scores[version])

    def _aggregate(self, task: RoundTask, asked: list[str], updates: dict[str, Update], seconds: list[float]) -> None:
        mean, good = FedAvg(), []
        for client in asked:
            update = updates.get(client)
            problem, state = self._examine(task, client, update)
            if update is not None and problem is None:
                mean.add(state, update.num_samples)
                good.append(update)
            self.store.record(_client_record(task, client, update, problem))
        if not good:
            raise FedummError(f"Round {task.round}: no client sent a usable update; see metrics.jsonl for the reasons.")
        # What nobody trained stays as it is.
        self.adapter = self.adapter | mean.finish()
        self.store.save_adapter("last", self.adapter, task.round, {})
        self._record_round(task, good, seconds)

    def _examine(self, task: RoundTask, client: str, update: Update | None) -> tuple[str | None, AdapterState]:
        """Why ``update`` cannot be averaged, or None; and its adapter."""
        if update is None:
            return "no answer", {}
        if update.error:
            return update.error, {}
        if update.round != task.round:
            return f"it is of round {update.round}", {}
        if update.num_samples != self._clients[client]["train"]:
            return f"it claims {update.num_samples} samples, the survey said {self._clients[client]['train']}", {}
        try:
            state = decode(update.adapter)
        except ValueError as error:
            return str(error), {}
        if strange := sorted(update.train_losses.keys() - self._clients[client]["tasks"].keys()):
            return f"it claims to have trained {strange[0]}, for which it has no data", {}
        left = set(update.untrained)
        if not state or left - self._spec.keys():
            return "it does not say what it trained", {}
        return check_state(state, {name: own for name, own in self._spec.items() if name not in left}), state

    def _record_round(self, task: RoundTask, good: list[Update], host_seconds: list[float]) -> None:
        total = sum(u.num_samples for u in good)
        assert self._best is not None
        self.store.record(
            {
                "event": "round",
                "round": task.round,
                "rounds": self.config.num_rounds,
                "clients": len(good),
                "train_loss": sum(u.train_loss * u.num_samples for u in good) / total,
                "train_losses": self._train_losses(good),
                **self._scores[task.round - 1],
                **summary("heldout_after", combine([u.after for u in good])),
                "best_round": self._best[1],
                "bytes_down": len(task.adapter) * len(host_seconds),
                "bytes_up": sum(len(u.adapter) for u in good),
                "seconds": round(time.monotonic() - self._round_started, 3),
                "seconds_host": round(max(host_seconds), 3),
                "elapsed": round(time.monotonic() - self._started, 3),
            }
        )

    def _train_losses(self, good: Sequence[Update]) -> dict[str, float]:
        """By task, weighted by how many training samples of the task a client has."""
        result = {}
        for task in sorted({task for update in good for task in update.train_losses}):
            own = [
                (u.train_losses[task], self._clients[u.client]["tasks"][task]) for u in good if task in u.train_losses
            ]
            result[task] = sum(loss * count for loss, count in own) / sum(count for _, count in own)
        return result

    def close(self) -> None:
        """Write the closing summary."""
        assert self._best is not None
        best, last = self._best[1], max(self._scores)
        if last:
            # Written before its score was known.
            self.store.save_adapter("last", self.adapter, last, self._scores[last])
        self.store.record(
            {
                "event": "summary",
                "untrained": {"round": 0, **self._scores[0]},
                "best": {"round": best, **self._scores[best]},
                "last": {"round": last, **self._scores[last]},
                "seconds": round(time.monotonic() - self._started, 3),
            }
        )


def _features(reports: Sequence[CacheReport], one_machine: bool) -> CacheReport:
    """What the hosts keep of images: on the disk of one machine all the same, otherwise each its own."""
    name, kept = reports[0].name, reports[0].kept
    total = max if one_machine and kept == "disk" else sum
    return CacheReport(
        name,
        kept,
        total(report.bytes for report in reports),
        total(report.images for report in reports),
        sum(report.computed for report in reports),
        next((report.note for report in reports if report.note), ""),
    )


def _client_record(task: RoundTask, client: str, update: Update | None, problem: str | None) -> dict[str, Any]:
    record: dict[str, Any] = {"event": "client", "round": task.round, "client": client, "left_out": problem}
    if update is None:
        return record
    return record | {
        "num_samples": update.num_samples,
        "steps": update.steps,
        "train_loss": update.train_loss,
        "train_losses": update.train_losses,
        "untrained": len(update.untrained),
        **summary("heldout", update.before),
        **summary("heldout_after", update.after),
        "bytes_down": len(task.adapter),
        "bytes_up": len(update.adapter),
        "seconds_train": round(update.seconds_train, 3),
        "seconds_eval": round(update.seconds_eval, 3),
    }
