"""A host: one process, one backbone, any number of clients served one after the other."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fedumm.adapters import encode, spec_of
from fedumm.aggregation import get_aggregator
from fedumm.backends.protocol import Progress
from fedumm.compression.registry import load_codecs
from fedumm.config import FederateConfig
from fedumm.data import DataSplits
from fedumm.data.partition.split import ClientShare, Partition
from fedumm.errors import FedummError, PublicError
from fedumm.features.report import CacheReport
from fedumm.federation.client.client import Client, ClientSetting
from fedumm.federation.client.client_state import ClientState
from fedumm.federation.client.common_test import CommonTest
from fedumm.federation.client.global_model import GlobalModel
from fedumm.federation.client.guard import Guard, NotReadyError
from fedumm.federation.client.identity import Identity
from fedumm.federation.client.masking import Masking
from fedumm.federation.client.redaction import whole, withheld, without_data
from fedumm.federation.option_rules import check_rules
from fedumm.federation.protocol.initial_adapter import adapter_digest
from fedumm.federation.protocol.mask_messages import MaskKeysRequest, MaskReply, MaskRequest, MaskSharesRequest
from fedumm.federation.protocol.messages import (
    SETUP,
    ClientUpdate,
    DataStats,
    DataStatsRequest,
    HostError,
    InitReply,
    InitRequest,
    Message,
    RoundReply,
    RoundTask,
)
from fedumm.step_losses import STEPS
from fedumm.training.backbone import Backbone
from fedumm.training.candidates import check_candidates, training_answers
from fedumm.training.data import client_facts, partition_for, references
from fedumm.training.dataset_pool import DatasetPool
from fedumm.training.device import pick_device
from fedumm.training.feature_cache import cache_features
from fedumm.training.fingerprint import frozen_fingerprint
from fedumm.training.generation_eval import DRAWINGS, drawing_test
from fedumm.training.stock import Stock
from fedumm.training.threads import thread_count

_LOG = logging.getLogger(__name__)

_FAILURES = (FedummError, RuntimeError, OSError, ValueError, LookupError, TypeError, ArithmeticError)
"""These leave out one client and not the others of its host. FLARE's wish to stop is not among them."""


@dataclass(frozen=True)
class LoadedData:
    """What a host has after :class:`DataStatsRequest`: all rows, and which client has which of them."""

    splits: DataSplits
    partition: Partition


@dataclass(frozen=True)
class ReadyHost:
    """What a host has after :class:`InitRequest`: the model, its clients, and its part of the common test set."""

    model: GlobalModel
    clients: Mapping[str, Client]
    test: CommonTest


class Host:
    """Answers the server's messages.

    What a client does depends on the global adapter, its data and the seed, never on which
    clients the backbone served before: adapter, optimiser and random state are set anew.

    Args:
        folder: for what clients keep from round to round.
        index: which of ``hosts`` on this machine it is.
        answered: the last round that an earlier process of this host, which has died, has answered.
        simulated: all hosts, and the server, are this user's own. Otherwise this one is a site: its only client is
            itself, and errors leave it without their texts (:mod:`fedumm.federation.client.redaction`).
        stock: data and models that runs of this process share.
        identity: of a site, with which it signs the keys of masked rounds, and checks those of the others.

    Attributes:
        data: None before the first message.
        ready: None before the second one.

    Raises:
        FedummError: ``name`` can't be one, or a site has no identity for masked rounds.
    """

    def __init__(
        self, name: str, config: FederateConfig, progress: Progress, folder: Path, index: int = 0, hosts: int = 1,
        answered: int = 0, simulated: bool = False, stock: Stock | None = None, identity: Identity | None = None,
    ) -> None:  # fmt: skip
        self._guard = Guard(name, config, simulated, folder / f"{name}@rounds.json", answered)
        self.name, self.config, self.progress = name, config, progress
        self._index, self._hosts, self._simulated = index, hosts, simulated
        self._stock = stock or Stock()
        self._aggregator = get_aggregator(config.aggregator)
        load_codecs(config.up, config.down)
        # What a site relies on it asks for itself, whatever the server let pass.
        self._privacy = check_rules(config) if config.dp == "local" or config.secure_aggregation else None
        self._masking: Masking | None = None
        if config.secure_aggregation:
            if identity is None and not simulated:
                raise PublicError("a site takes part in masked rounds only with what its startup kit signs")
            self._masking = Masking(name, config, folder / f"{name}@sums.json", identity)
        self._states = ClientState(folder)
        # A site keeps no images: its disk is not the run's.
        self._drawings = folder.parent / DRAWINGS if simulated else None
        # Nor does it tell of its training more than its updates; nor does anybody with local privacy.
        self._steps = folder.parent / STEPS if simulated and config.dp != "local" else None
        self._notes: list[str] = []
        self.data: LoadedData | None = None
        self.ready: ReadyHost | None = None

    def handle(self, message: Message) -> Message:
        """The answer to ``message``; an exception becomes a :class:`HostError`."""
        try:
            answer = self._answer(message)
        except NotReadyError as error:
            return HostError(str(error), needs=error.needs)
        except Exception as error:
            return whole(error, message) if self._simulated else withheld(error, message)
        return answer if self._simulated else without_data(answer)

    def _answer(self, message: Message) -> Message:
        if isinstance(message, DataStatsRequest):
            return self._load_data(message)
        if isinstance(message, InitRequest):
            return self._initialize(message)
        if isinstance(message, RoundTask):
            return self._run_round(message)
        if isinstance(message, MaskRequest):
            return self._mask(message)
        raise PublicError(f"unexpected message {type(message).__name__}")

    def _load_data(self, request: DataStatsRequest) -> DataStats:
        self._guard.check_data_stats_request(request)
        torch.set_num_threads(thread_count(self.config, self._hosts))
        self.progress("loading the data", 0, 1)
        splits = self._stock.splits(self.config)
        check_candidates(self.config, splits)
        partition, labels = partition_for(self.config, splits.train, request.roster, self.name)
        self._guard.check_shares(partition.shares)
        self.data = LoadedData(splits, partition)
        clients = client_facts(self.config, partition, splits.train, labels, self._simulated)
        return DataStats(clients, partition.method, partition.fingerprint)

    def _initialize(self, request: InitRequest) -> InitReply:
        self._guard.check_init_request(request)
        if self.data is None:
            raise NotReadyError("a set-up was asked for before the survey", SETUP)
        splits, partition = self.data.splits, self.data.partition
        self.ready = None  # of a host that is set up once more: two models may not fit
        device = pick_device(self.config.gpu, self._index)
        backbone = self._load_backbone(device, self.data)
        # Before it grows. In a simulation all hosts load the same files.
        fingerprint = "" if self._simulated else frozen_fingerprint(backbone.model)
        model = GlobalModel(backbone, self.config, self._guard)
        for change in request.changes:
            model.fold(change)
        shares = {name: partition.shares[name] for name in request.assignments[self.name]}
        first, step = request.tests[self.name]
        test_rows = range(first, len(splits.eval), step)
        pool, test_pool = self._pools(backbone, splits, shares, test_rows)
        cached = self._cache_features(backbone, training=pool, evaluation=test_pool)
        setting = ClientSetting(
            self.config, self._aggregator, self._privacy, model, pool, self._states, self.progress, self._steps,
            self._masking,
        )  # fmt: skip
        self.ready = ReadyHost(
            model=model,
            clients={name: Client(name, share, setting) for name, share in shares.items()},
            test=CommonTest(
                test_pool.part(test_rows), drawing_test(backbone, splits.eval, self.config, first, step), self._drawings
            ),
        )
        initial = backbone.adapter()
        return InitReply(
            spec=spec_of(initial),
            adapter_config=backbone.adapter_config(),
            trainable=backbone.trainable,
            total=backbone.total,
            adapter=encode(initial) if request.initial_from == self.name else b"",
            digest=adapter_digest(initial),
            fingerprint=fingerprint,
            test_samples=len(test_rows),
            cache=cached,
            device=str(device),
            findings=backbone.findings(),
        )

    def _training_answers(self, data: LoadedData) -> tuple[str, ...]:
        """What this site ranks, where that is its own."""
        shares = data.partition.shares
        chosen = shares[self.name].train.tolist() if self.name in shares else []
        return training_answers(self.config, data.splits.train, chosen)

    def _load_backbone(self, device: torch.device, data: LoadedData) -> Backbone:
        self.progress("loading the model", 0, 1)
        candidates, texts = self._training_answers(data), references(self.config, data.splits.eval)
        grows = self._aggregator.updates_base_model
        backbone = self._stock.backbone(self.config, device, candidates, texts, alone=grows)
        if grows:
            backbone.widen()
        backbone.say = self._notes.append
        return backbone

    def _pools(
        self, backbone: Backbone, splits: DataSplits, shares: Mapping[str, ClientShare], test_rows: range
    ) -> tuple[DatasetPool, DatasetPool]:
        """Of this host's clients' rows, and of its part of the test set."""
        own = sorted(row for share in shares.values() for row in (*share.train.tolist(), *share.heldout.tolist()))
        rows: tuple[Sequence[int], Sequence[int]] = own, test_rows
        if self._hosts > 1 and self.config.feature_cache in ("auto", "disk"):
            # Hosts on one machine fill the cache together, for which each has to name all images.
            rows = range(len(splits.train)), range(len(splits.eval))
        return (
            DatasetPool(backbone, splits.train, self.config, rows[0]),
            DatasetPool(backbone, splits.eval, self.config, rows[1]),
        )

    def _cache_features(self, backbone: Backbone, **pools: DatasetPool) -> list[CacheReport]:
        whole = {split: pool.whole for split, pool in pools.items() if pool.whole is not None}
        config = self.config
        share = (config.clients_per_round or config.num_clients) / config.num_clients
        often = {"training": config.num_rounds * config.local_epochs * share, "evaluation": config.num_rounds + 1.0}
        passes = [often[split] for split in whole]
        return cache_features(backbone, list(whole.values()), config, self.progress, list(whole), passes)

    def _mask(self, message: MaskRequest) -> MaskReply:
        if self.ready is None:
            raise NotReadyError("masks were asked for before the set-up", SETUP)
        if self._masking is None:
            raise PublicError("masks without --secure_aggregation")
        if isinstance(message, MaskKeysRequest):
            self._guard.check_mask_keys_request(message)
            return self._masking.keys(message)
        if isinstance(message, MaskSharesRequest):
            self._guard.check_mask_shares_request(message)
            return self._masking.shares(message)
        return self._masking.unmask(message)

    def _run_round(self, task: RoundTask) -> RoundReply:
        if self.ready is None:
            raise NotReadyError("a round was asked for before the set-up", SETUP)
        model = self.ready.model
        # First: with --dp local, what follows puts the round on record as answered.
        model.check_base(task)
        self._guard.check_round_task(task)
        if self._masking:
            self._masking.check_task(task, {name: client.rows for name, client in self.ready.clients.items()})
        begun = time.monotonic()
        lost = model.receive(task)
        tests, scored = self.ready.test, self._scores_tests
        if task.version >= 0:
            drawn = tests.draw(model.backbone, self.progress, task.version) if scored else {}
            return RoundReply([], drawn, self._seconds(begun), self._told())
        version = task.round - 1
        test = tests.score(model.backbone, self.config, task.draw, self.progress, version) if scored else {}
        scorers = task.scorers.get(self.name, [])
        updates = [
            self._client_round(self.ready.clients[name], task, task.train and name not in scorers)
            for name in dict.fromkeys(task.clients(self.name))
        ]
        return RoundReply(updates, test, self._seconds(begun), self._told(), lost)

    @property
    def _scores_tests(self) -> bool:
        """Not where clients keep a part of the adapter: none is everybody's then. Nor with ``--dp local`` where
        the test rows are the site's own: of these the noisy update alone may tell."""
        everybodys = self._aggregator.communicated_factors == frozenset("AB")
        return everybodys and not (self._privacy and self.config.own_data)

    def _seconds(self, begun: float) -> float:
        """What an answer took; how long training takes may follow from the data."""
        return 0.0 if self._privacy else time.monotonic() - begun

    def _client_round(self, client: Client, task: RoundTask, trains: bool) -> ClientUpdate:
        try:
            return client.run_round(task, trains)
        except _FAILURES as error:
            return self._failed(client, task, f"{type(error).__name__}: {error}")

    def _failed(self, client: Client, task: RoundTask, why: str) -> ClientUpdate:
        """What is sent for a client that failed. With ``--dp local`` that is noise alone: that it failed may follow
        from its data."""
        if not (self._privacy and task.train):
            return ClientUpdate(client=client.name, round=task.round, error=why)
        self._notes.append(f"round {task.round}: {client.name} failed ({why}), and its update is noise alone")
        return client.noise_alone(task)

    def _told(self) -> list[str]:
        """The notes since the last round, for the server; a site with ``--dp local`` keeps them in its own log."""
        notes = self._notes.copy()
        self._notes.clear()
        if not self._privacy or self._simulated:
            return notes
        if notes:
            # They may follow from the data, too.
            _LOG.warning("\n".join(notes))
        return []
