"""Partitioners by name: shipped ones, a user's own, and what makes no sense."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedumm.config import FederateConfig
from fedumm.data.partition import Partitioner, partitioner_for, register_partitioner
from fedumm.data.partition.dirichlet import Dirichlet
from fedumm.data.partition.iid import Iid
from fedumm.data.partition.split import split_rows
from fedumm.data.partition.task_share import TaskShare
from fedumm.errors import FedummError

NAMES = [f"site-{k}" for k in range(1, 100)]


class TestByName:
    """``--partition`` chooses by name, and every one is made of the run's options."""

    @staticmethod
    def chosen(partition: str, **options: object) -> Partitioner:
        return partitioner_for(FederateConfig(model_backend="januspro", partition=partition, **options))  # type: ignore[arg-type]

    def test_shipped_ones(self) -> None:
        unified = {"task": "unified", "dirichlet_alpha": 0.5}
        assert isinstance(self.chosen(""), Iid)
        assert isinstance(self.chosen("iid"), Iid)
        assert self.chosen("", dirichlet_alpha=0.5) == self.chosen("dirichlet", dirichlet_alpha=0.5) == Dirichlet(0.5)
        assert self.chosen("task:0.25", **unified) == TaskShare(0.25, Dirichlet(0.5))

    @pytest.mark.parametrize(
        ("partition", "options", "message"),
        [
            ("iid", {"dirichlet_alpha": 0.5}, "iid has no use for --dirichlet_alpha"),
            ("iid:3", {}, "iid takes nothing after a colon"),
            ("dirichlet", {}, "dirichlet needs a --dirichlet_alpha above 0"),
            ("dirichlet:3", {"dirichlet_alpha": 0.5}, "takes nothing more"),
            ("dirichlt", {}, r"Unknown partitioner 'dirichlt'. Available: dirichlet, iid, task. Did you mean 'dirich"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, partition: str, options: dict[str, float], message: str) -> None:
        with pytest.raises(FedummError, match=message):
            self.chosen(partition, **options)

    def test_one_of_a_users_own_is_given_its_argument_and_what_it_says_is_done(self) -> None:
        @register_partitioner("shards")
        class Shards(Partitioner):
            def __init__(self, size: int) -> None:
                self.size = size

            @classmethod
            def from_config(cls, config: FederateConfig, argument: str) -> Shards:
                return cls(int(argument))

            def owners(self, train: Any, held: Any, num_clients: int, rng: Any) -> tuple[Any, Any]:
                return tuple(np.arange(len(units)) // self.size % num_clients for units in (train, held))  # type: ignore[return-value]

        chosen = self.chosen("shards:10")
        assert (chosen.name, type(chosen)) == ("shards", Shards)
        partition = split_rows(["a"] * 45, None, NAMES[:2], chosen, seed=1, holdout=1 / 9)
        assert partition.method == "shards"
        assert [len(share.train) for share in partition.shares.values()] == [20, 20]

    @pytest.mark.parametrize("owned", [[0] * 36, np.zeros(35, int), np.full(36, 2), np.full(36, -1), np.zeros(36)])
    def test_what_a_users_own_gives_is_checked(self, owned: Any) -> None:
        class Bad(Partitioner):
            name = "bad"

            def owners(self, train: Any, held: Any, num_clients: int, rng: Any) -> tuple[Any, Any]:
                return owned, np.zeros(len(held), int)

        with pytest.raises(FedummError, match=r"'bad' must give an array of 36 whole numbers from 0 to 1"):
            split_rows(["a"] * 40, None, NAMES[:2], Bad(), seed=1, holdout=0.1)

    def test_what_is_no_partitioner_is_refused(self) -> None:
        with pytest.raises(FedummError, match=r"'list' is no subclass of fedumm.data.partition.Partitioner"):
            register_partitioner("list", list)
