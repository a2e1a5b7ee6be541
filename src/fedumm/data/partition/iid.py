"""``iid``: rows dealt out in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedumm.data.partition.base import Ints, Partitioner
from fedumm.errors import FedummError

if TYPE_CHECKING:
    from fedumm.config import FederateConfig


class Iid(Partitioner):
    """Shuffle, then deal round-robin: client sizes differ by at most one.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> train, held = Iid().owners(np.zeros(10, int), np.zeros(4, int), 4, rng)
        >>> np.bincount(train), np.bincount(held)
        (array([3, 3, 2, 2]), array([1, 1, 1, 1]))
    """

    name = "iid"

    @classmethod
    def from_config(cls, config: FederateConfig, argument: str) -> Iid:
        """Refuses a ``--dirichlet_alpha``."""
        if config.dirichlet_alpha:
            raise FedummError("--partition iid has no use for --dirichlet_alpha: leave one of them out.")
        return super().from_config(config, argument)

    def owners(self, train: Ints, held: Ints, num_clients: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """The client (0 .. ``num_clients`` - 1) of each training and each held-out unit."""
        return _deal(len(train), num_clients, rng), _deal(len(held), num_clients, rng)


def _deal(count: int, num_clients: int, rng: np.random.Generator) -> Ints:
    owner = np.empty(count, np.int64)
    owner[rng.permutation(count)] = np.arange(count) % num_clients
    return owner
