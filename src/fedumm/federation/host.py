"""A host: one process, one backbone, any number of clients served one after the other."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fedumm.adapters import AdapterState, decode, encode, spec_of
from fedumm.backends.protocol import Progress
from fedumm.config import FederateConfig
from fedumm.data import DataSplits
from fedumm.data.partition import ClientShare, Partition
from fedumm.errors import FedummError
from fedumm.features.report import CacheReport
from fedumm.federation.messages import HostError, HostReply, Message, Ready, RoundTask, Setup, Sizes, Survey, Update
from fedumm.seeds import derive
from fedumm.training.backbone import Backbone, load_backbone, pick_device
from fedumm.training.data import load_splits, partition_for
from fedumm.training.drawing import DrawingTest, drawing_test
from fedumm.training.local import cache_features, evaluate, train_epochs
from fedumm.training.pool import DatasetPool
from fedumm.training.results import GENEVAL, Scores
from fedumm.training.threads import thread_count


@dataclass
class _Client:
    """A client's data on this host; its weights, optimiser and random state live only in a round."""

    train: Any
    heldout: Any


class Host:
    """Answers the server's messages.

    What a client does depends on the global adapter, its data and the seed, never on which
    clients the backbone served before: adapter, optimiser and random state are set anew.
    """

    def __init__(self, name: str, config: FederateConfig, progress: Progress, index: int = 0, hosts: int = 1) -> None:
        self.name, self.config, self.progress = name, config, progress
        self._index, self._hosts = index, hosts
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
            if isinstance(message, Survey):
                return self._survey(message)
            if isinstance(message, Setup):
                return self._setup(message)
            if isinstance(message, RoundTask):
                return self._round(message)
            raise FedummError(f"unexpected message {type(message).__name__}")
        except FedummError as error:
            return HostError(str(error))
        except Exception as error:
            return HostError(f"{type(error).__name__}: {error}", traceback.format_exc())

    def _survey(self, survey: Survey) -> Sizes:
        torch.set_num_threads(thread_count(self.config, self._hosts))
        self.progress("loading the data", 0, 1)
        self._splits = load_splits(self.config)
        self._partition, labels = partition_for(self.config, self._splits.train, survey.roster)
        counts, tasks = self._partition.counts(labels), self._partition.counts(self._splits.train["task"][:])
        clients = {
            name: {
                "train": len(share.train),
                "heldout": len(share.heldout),
                "tasks": tasks[name],
                "labels": counts[name],
            }
            for name, share in self._partition.shares.items()
        }
        return Sizes(clients, self._partition.method, self._partition.fingerprint)

    def _setup(self, setup: Setup) -> Ready:
        splits, partition = self._splits, self._partition
        if splits is None or partition is None:
            raise FedummError("a set-up was asked for before the survey")
        device = pick_device(self.config.gpu, self._index)
        self.progress("loading the model", 0, 1)
        backbone = self._backbone = load_backbone(self.config, device)
        self._shares = {name: partition.shares[name] for name in setup.assignments[self.name]}
        first, step = setup.tests[self.name]
        test_rows = range(first, len(splits.eval), step)
        cached = self._prepare(backbone, splits, test_rows)
        self._drawing = drawing_test(backbone, splits.eval, self.config, first, step)
        initial = backbone.adapter()
        return Ready(
            spec=spec_of(initial),
            adapter_config=backbone.adapter_config(),
            trainable=backbone.trainable,
            total=backbone.total,
            adapter=encode(initial) if setup.initial_from == self.name else b"",
            test_samples=len(test_rows),
            cache=cached,
            device=str(device),
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

    def _round(self, task: RoundTask) -> HostReply:
        backbone = self._backbone
        if backbone is None:
            raise FedummError("a round was asked for before the set-up")
        begun = time.monotonic()
        start = decode(task.adapter)
        backbone.put(start)
        test = self._score_test(backbone, task.draw)
        mine = task.assignments.get(self.name, [])
        before = {name: self._score(backbone, name) for name in mine}
        updates = [self._client_round(backbone, start, task, name, *before[name]) for name in mine]
        return HostReply(updates, test, time.monotonic() - begun)

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
        if heldout is None:
            return {}, 0.0
        self.progress(f"scoring {client}", 0, 1)
        return evaluate(backbone, heldout, self.config), time.monotonic() - start

    def _client_round(
        self, backbone: Backbone, start: AdapterState, task: RoundTask, client: str,
        before: Scores, seconds: float,
    ) -> Update:  # fmt: skip
        if not task.train:
            return Update(client, task.round, before=before, seconds_eval=seconds)

        def show(done: int, total: int, loss: float) -> None:
            self.progress(f"training {client}  loss {loss:.3f}", done, total)

        try:
            backbone.put(start)
            seed = derive(self.config.seed, "client", client, "round", task.round)
            data = self._data(client).train
            result = train_epochs(backbone, data, self.config, self.config.local_epochs, seed, show)
            untrained = sorted(start.keys() - result.adapter.keys())
            after, seconds_after = self._score(backbone, client)
        except (FedummError, RuntimeError, OSError) as error:
            return Update(client, task.round, before=before, error=f"{type(error).__name__}: {error}")
        return Update(
            client, task.round, encode(result.adapter), untrained, result.samples, result.steps, result.loss,
            result.losses, before, after, result.seconds, seconds + seconds_after,
        )  # fmt: skip
