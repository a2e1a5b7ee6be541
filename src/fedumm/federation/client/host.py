"""A host: one process, one backbone, any number of clients served one after the other."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fedumm.adapters import AdapterState, Spec, encode, spec_of
from fedumm.adapters.factors import at_rank, factor_of, spec_at_rank
from fedumm.adapters.folder import save_folder
from fedumm.adapters.origin import Origin
from fedumm.adapters.state import part
from fedumm.aggregation import get_aggregator
from fedumm.aggregation.base import BackboneDelta
from fedumm.aggregation.error import lost_share
from fedumm.backends.protocol import Progress
from fedumm.compression.packing import pack, unpack
from fedumm.config import FederateConfig
from fedumm.data import DataSplits
from fedumm.data.partition.split import ClientShare, Partition
from fedumm.errors import FedummError, PublicError
from fedumm.features.report import CacheReport
from fedumm.federation.client.client_state import CONTROL, OWN, RESIDUAL, ClientState, next_client_state
from fedumm.federation.client.guard import Guard
from fedumm.federation.client.redaction import whole, withheld, without_data
from fedumm.federation.option_rules import check_rules
from fedumm.federation.protocol.backbone_delta import unpack_backbone_delta
from fedumm.federation.protocol.client_view import client_start, communicated_tensors, steps_of
from fedumm.federation.protocol.initial_adapter import adapter_digest
from fedumm.federation.protocol.messages import (
    ClientUpdate,
    DataStats,
    DataStatsRequest,
    InitReply,
    InitRequest,
    Message,
    RoundReply,
    RoundTask,
)
from fedumm.federation.protocol.transfer import pack_update, unpack_payload
from fedumm.libraries import installed_versions
from fedumm.metrics.evaluation import GENEVAL, Scores
from fedumm.privacy.mechanism import private_update
from fedumm.report.card import own_card
from fedumm.seeds import derive
from fedumm.training.backbone import Backbone, load_backbone, pick_device
from fedumm.training.data import label_counts, load_splits, partition_for
from fedumm.training.dataset_pool import DatasetPool
from fedumm.training.evaluation import evaluate
from fedumm.training.generation_eval import DrawingTest, drawing_test
from fedumm.training.gradient_correction import ControlVariates, GradientHook, Proximal
from fedumm.training.threads import thread_count
from fedumm.training.trainer import cache_features, train_epochs

_LOG = logging.getLogger(__name__)

_FAILURES = (FedummError, RuntimeError, OSError, ValueError, LookupError, TypeError, ArithmeticError)
"""What leaves out one client, and not the others of its host. That FLARE wants to stop is not among them."""


@dataclass
class _Client:
    """A client's data on this host; its optimiser and random state live only in a round."""

    train: Any
    heldout: Any


class Host:
    """Answers the server's messages.

    What a client does depends on the global adapter, its data and the seed, never on which
    clients the backbone served before: adapter, optimiser and random state are set anew.

    Args:
        folder: for what clients keep from round to round.
        index: which of ``hosts`` on this machine it is.
        answered: the last round that a host before it, which has died, has answered.
        simulated: all hosts, and the server, are this user's own. Otherwise this one is a site: its only client is
            itself, and errors leave it without their texts (:mod:`fedumm.federation.client.redaction`).

    Raises:
        FedummError: ``name`` can't be one.
    """

    def __init__(
        self, name: str, config: FederateConfig, progress: Progress, folder: Path, index: int = 0, hosts: int = 1,
        answered: int = 0, simulated: bool = False,
    ) -> None:  # fmt: skip
        self._guard = Guard(name, config, simulated, folder / f"{name}@rounds.json", answered)
        self.name, self.config, self.progress = name, config, progress
        self._index, self._hosts, self._simulated = index, hosts, simulated
        self._aggregator = get_aggregator(config.aggregator)
        self._dp = check_rules(config) if config.dp == "local" else None
        self._notes: list[str] = []
        self._memory = ClientState(folder)
        self._global: AdapterState = {}
        self._version = -1
        self._control: AdapterState = {}
        self._folded: tuple[BackboneDelta, float] | None = None
        self._clients: dict[str, _Client] = {}
        self._splits: DataSplits | None = None
        self._partition: Partition | None = None
        self._shares: dict[str, ClientShare] = {}
        self._train: DatasetPool | None = None
        self._backbone: Backbone | None = None
        self._test: Any = None
        self._drawing: DrawingTest | None = None

    def handle(self, message: Message) -> Message:
        """The answer to ``message``; an exception becomes a :class:`HostError`."""
        try:
            answer = self._answer(message)
        except Exception as error:
            return whole(error, message) if self._simulated else withheld(error, message)
        return answer if self._simulated else without_data(answer)

    def _answer(self, message: Message) -> Message:
        if isinstance(message, DataStatsRequest):
            return self._survey(message)
        if isinstance(message, InitRequest):
            return self._setup(message)
        if isinstance(message, RoundTask):
            return self._round(message)
        raise PublicError(f"unexpected message {type(message).__name__}")

    def _survey(self, survey: DataStatsRequest) -> DataStats:
        self._guard.survey(survey)
        torch.set_num_threads(thread_count(self.config, self._hosts))
        self.progress("loading the data", 0, 1)
        self._splits = load_splits(self.config)
        self._partition, labels = partition_for(self.config, self._splits.train, survey.roster, self.name)
        counts = label_counts(self.config, self._partition, self._splits.train, labels, self._simulated)
        tasks = self._partition.counts(self._splits.train["task"][:])
        clients = {
            name: {
                "train": len(share.train),
                "heldout": len(share.heldout),
                "tasks": tasks[name],
                "labels": counts[name],
            }
            for name, share in self._partition.shares.items()
        }
        return DataStats(clients, self._partition.method, self._partition.fingerprint)

    def _setup(self, setup: InitRequest) -> InitReply:
        self._guard.setup(setup)
        splits, partition = self._splits, self._partition
        if splits is None or partition is None:
            raise PublicError("a set-up was asked for before the survey")
        device = pick_device(self.config.gpu, self._index)
        self.progress("loading the model", 0, 1)
        backbone = self._backbone = load_backbone(self.config, device)
        if self._aggregator.updates_base_model:
            backbone.widen()
        backbone.say = self._notes.append
        for change in setup.changes:
            self._fold(backbone, change)
        self._shares = {name: partition.shares[name] for name in setup.assignments[self.name]}
        first, step = setup.tests[self.name]
        test_rows = range(first, len(splits.eval), step)
        cached = self._prepare(backbone, splits, test_rows)
        self._drawing = drawing_test(backbone, splits.eval, self.config, first, step)
        initial = backbone.adapter()
        return InitReply(
            spec=spec_of(initial),
            adapter_config=backbone.adapter_config(),
            trainable=backbone.trainable,
            total=backbone.total,
            adapter=encode(initial) if setup.initial_from == self.name else b"",
            digest=adapter_digest(initial),
            test_samples=len(test_rows),
            cache=cached,
            device=str(device),
            versions=installed_versions(),
        )

    def _prepare(self, backbone: Backbone, splits: DataSplits, test_rows: range) -> list[CacheReport]:
        """Make the data ready for this host's clients and its part of the test set."""
        own = sorted(row for share in self._shares.values() for row in (*share.train.tolist(), *share.heldout.tolist()))
        rows: tuple[Sequence[int], Sequence[int]] = own, test_rows
        if self._hosts > 1 and self.config.feature_cache in ("auto", "disk"):
            # Hosts on one machine fill the cache together, for which each has to name all images.
            rows = range(len(splits.train)), range(len(splits.eval))
        self._train, test = (
            DatasetPool(backbone, split, self.config, used)
            for split, used in zip((splits.train, splits.eval), rows, strict=True)
        )
        whole = [pool.whole for pool in (self._train, test) if pool.whole is not None]
        cached = cache_features(backbone, whole, self.config, self.progress)
        self._test = test.part(test_rows)
        return cached

    def _round(self, task: RoundTask) -> RoundReply:
        backbone = self._backbone
        if backbone is None:
            raise PublicError("a round was asked for before the set-up")
        self._guard.task(task)
        begun = time.monotonic()
        lost = self._receive(backbone, task)
        test = self._score_test(backbone, task.draw) if self._shares_all else {}
        updates = []
        for client in dict.fromkeys(task.clients(self.name)):
            try:
                updates.append(self._client_round(backbone, task, client))
            except _FAILURES as error:
                updates.append(self._failed(backbone, task, client, error))
        notes = self._notes.copy()
        self._notes.clear()
        if self._dp and not self._simulated:
            # They may follow from the data, too.
            _LOG.warning("\n".join(notes))
            notes = []
        return RoundReply(updates, test, time.monotonic() - begun, notes, lost)

    @property
    def _shares_all(self) -> bool:
        """Otherwise there is no adapter that is everybody's."""
        return self._aggregator.communicated_factors == frozenset("AB")

    def _receive(self, backbone: Backbone, task: RoundTask) -> float | None:
        """The share of what the last round delivered that this host's arithmetic lost; None if it changed no layer."""
        spec = backbone.slot.spec
        if task.base_round not in (-1, self._version):
            raise PublicError(f"it missed a round: it holds the result of {self._version}, not of {task.base_round}")
        if task.change:
            self._fold(backbone, task.change)
        self._global = unpack_payload(task.adapter, self._global, spec)
        self._guard.adapter(self._global, spec)
        if task.control is not None:
            held = self._control or {name: torch.zeros_like(t) for name, t in self._global.items()}
            self._control = unpack_payload(task.control, held, spec)
            self._guard.adapter(self._control, spec)
        self._version = task.round - 1
        backbone.put_at_rank(self._global, self._global_scale)
        folded, self._folded = self._folded, None
        return lost_share(backbone.slot.delivered_norm(folded[0]), folded[1]) if folded else None

    def _fold(self, backbone: Backbone, payload: bytes) -> None:
        change = unpack_backbone_delta(payload)
        self._guard.change(change)
        self._folded = change, backbone.fold(change)

    @property
    def _global_scale(self) -> float | None:
        """None: what the model has."""
        return None if self.config.equal_ranks else self.config.alpha / self.config.rank

    def _enter(self, backbone: Backbone, client: str, own: AdapterState) -> AdapterState:
        """Put in what ``client`` starts from: the global adapter at its rank, with factors of its own."""
        start = client_start(self._global, self.config, client) | own
        backbone.put_at_rank(start, None if self.config.equal_ranks else self.config.scale_of(client))
        return start

    def _data(self, client: str) -> _Client:
        """Made when the client first takes part."""
        if client not in self._clients:
            share, pool = self._shares[client], self._train
            assert pool is not None
            self._clients[client] = _Client(pool.part(share.train.tolist()), pool.part(share.heldout.tolist()))
        return self._clients[client]

    def _score_test(self, backbone: Backbone, draw: bool) -> Scores:
        scores: Scores = {}
        if self._test is not None:
            self.progress("scoring the common test set", 0, 1)
            scores = evaluate(backbone, self._test, self.config)
        if draw and self._drawing is not None:
            scores[GENEVAL] = self._drawing.score(backbone, self.progress)
        return scores

    def _score(self, backbone: Backbone, client: str) -> tuple[Scores, float]:
        heldout, start = self._data(client).heldout, time.monotonic()
        if heldout is None or self._dp:
            # Of the client's data --dp local lets the noisy update out, and nothing else.
            return {}, 0.0
        self.progress(f"scoring {client}", 0, 1)
        return evaluate(backbone, heldout, self.config), time.monotonic() - start

    def _client_round(self, backbone: Backbone, task: RoundTask, client: str) -> ClientUpdate:
        memory = self._memory.load(client, task.last_accepted_round.get(client, 0))
        start = self._enter(backbone, client, part(memory, OWN))
        before, seconds = self._score(backbone, client)
        if not task.train:
            self._save_own(backbone, client, memory)
        if not task.train or client in task.scorers.get(self.name, []):
            return ClientUpdate(client=client, round=task.round, before=before, seconds_eval=seconds)
        return self._train_client(backbone, start, memory, task, client, before, seconds)

    def _train_client(
        self, backbone: Backbone, start: AdapterState, memory: AdapterState, task: RoundTask, client: str,
        before: Scores, seconds: float,
    ) -> ClientUpdate:  # fmt: skip
        config = self.config

        def show(done: int, total: int, loss: float) -> None:
            self.progress(f"training {client}  loss {loss:.3f}", done, total)

        parameters, hooks = backbone.slot.parameters, list[GradientHook]()
        variates = ControlVariates(parameters, self._control, part(memory, CONTROL)) if config.scaffold else None
        if variates:
            hooks.append(variates)
        if config.prox_mu:
            hooks.append(Proximal(parameters, config.prox_mu))
        with backbone.slot.training_only(task.factors):
            seed = derive(config.seed, "client", client, "round", task.round)
            result = train_epochs(
                backbone, self._data(client).train, config, config.local_epochs, seed, show, hooks=hooks
            )
        after, seconds_after = self._score(backbone, client)
        trained = result.adapter if config.equal_ranks else at_rank(result.adapter, config.rank_of(client))
        kept = {name: t for name, t in trained.items() if (factor := factor_of(name)) and not self._travels(factor)}
        sent = {name: t for name, t in trained.items() if name not in kept}
        if self._dp:
            # Which tensors its data had use for would tell of them: noise goes on all.
            sent = {name: start[name] for name in communicated_tensors(start, self._shared(task.factors))} | sent
        payload, residual = self._pack(start, sent, memory, client)
        control, own_control = self._pack_control(variates, memory) if variates else (b"", {})
        keep = next_client_state(memory, kept, own_control, residual)
        self._memory.save(client, task.round, keep, task.last_accepted_round.get(client, 0))
        if self._dp:
            return self._private(task, client, payload)
        return ClientUpdate(
            client=client,
            round=task.round,
            adapter=payload,
            untrained=self._untrained(start, sent, task.factors),
            num_samples=result.samples,
            steps=result.steps,
            train_loss=result.loss,
            train_losses=result.losses,
            before=before,
            after=after,
            seconds_train=result.seconds,
            seconds_eval=seconds + seconds_after,
            error="",
            control=control,
        )

    def _private(self, task: RoundTask, client: str, payload: bytes) -> ClientUpdate:
        """An update that tells nothing of the client's data beyond their number, which the survey told."""
        rows = len(self._shares[client].train)
        return ClientUpdate(
            client=client,
            round=task.round,
            adapter=payload,
            untrained=[],
            num_samples=rows,
            steps=steps_of(self.config, rows),
        )

    def _failed(self, backbone: Backbone, task: RoundTask, client: str, error: Exception) -> ClientUpdate:
        """What is sent for a client that failed. With ``--dp local`` that is noise alone: that it failed may follow
        from its data."""
        why = f"{type(error).__name__}: {error}"
        if not (self._dp and task.train):
            return ClientUpdate(client=client, round=task.round, error=why)
        told = f"round {task.round}: {client} failed ({why}), and its update is noise alone"
        self._notes.append(told) if self._simulated else _LOG.warning(told)
        start = self._enter(backbone, client, {})
        sent = {name: start[name] for name in communicated_tensors(start, self._shared(task.factors))}
        payload, residual = self._pack(start, sent, {}, client)
        self._memory.save(
            client, task.round, next_client_state({}, {}, {}, residual), task.last_accepted_round.get(client, 0)
        )
        return self._private(task, client, payload)

    def _travels(self, factor: str) -> bool:
        return factor in self._aggregator.communicated_factors

    def _untrained(self, start: AdapterState, sent: AdapterState, factors: str) -> list[str]:
        return sorted(communicated_tensors(start, self._shared(factors)) - sent.keys())

    def _shared(self, factors: str) -> frozenset[str]:
        return self._aggregator.communicated_factors & frozenset(factors)

    def _spec(self, client: str) -> Spec:
        assert self._backbone is not None
        spec = self._backbone.slot.spec
        return spec if self.config.equal_ranks else spec_at_rank(spec, self.config.rank_of(client))

    def _pack(
        self, start: AdapterState, sent: AdapterState, memory: AdapterState, client: str
    ) -> tuple[bytes, AdapterState]:
        config = self.config
        if self._dp:
            sent = private_update(start, sent, self._dp.clip, self._dp.std)
        residual = part(memory, RESIDUAL) if self._aggregator.supports_deltas else {}
        payload, lost = pack_update(start, sent, config.up, config.top_k, self._spec(client), residual)
        return payload, lost if self._aggregator.supports_deltas else {}

    def _pack_control(self, variates: ControlVariates, memory: AdapterState) -> tuple[bytes, AdapterState]:
        """The change of c_k, and the c_k that the server now knows of."""
        assert self._backbone is not None
        spec, old = self._backbone.slot.spec, part(memory, CONTROL)
        change = {name: t - old[name] if name in old else t for name, t in variates.mean_gradient().items()}
        payload = pack(change, self.config.up, spec)
        sent = unpack(payload, spec)
        return payload, {name: old[name] + t if name in old else t for name, t in sent.items()}

    def _save_own(self, backbone: Backbone, client: str, memory: AdapterState) -> None:
        """A client with factors of its own has an adapter of its own, which stays here."""
        if part(memory, OWN):
            save_folder(
                self._memory.folder / client / "adapter", backbone.adapter(), backbone.adapter_config(),
                own_card(self.config, client), Origin.of(self.config),
            )  # fmt: skip
