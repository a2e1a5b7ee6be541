"""``dirichlet``: label skew (Hsu et al., 2019, https://arxiv.org/abs/1909.06335, class by class)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedumm.data.partition.base import Ints, Partitioner
from fedumm.errors import FedummError

if TYPE_CHECKING:
    from fedumm.config import FederateConfig


@dataclass(frozen=True)
class Dirichlet(Partitioner):
    """For each class draw the clients' shares from Dir(alpha), then each unit's client from the shares.

    Small ``alpha`` means few clients per class. Owners are drawn one by one (a multinomial), so a
    class with a single unit goes to a random client; cutting at rounded cumulative shares would
    hand all such classes to the last one. Training and held-out units use the same shares: a
    client is evaluated on the mix that it trains on.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> train, held = Dirichlet(0.5).owners(np.repeat([0, 1], 50), np.repeat([0, 1], 5), 4, rng)
        >>> len(train), len(held), int(train.max())
        (100, 10, 3)
    """

    alpha: float
    name = "dirichlet"

    @classmethod
    def from_config(cls, config: FederateConfig, argument: str) -> Dirichlet:
        """Of ``--dirichlet_alpha``."""
        if argument or not config.dirichlet_alpha:
            raise FedummError("--partition dirichlet needs a --dirichlet_alpha above 0, and takes nothing more.")
        return cls(config.dirichlet_alpha)

    def owners(self, train: Ints, held: Ints, num_clients: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """The client (0 .. ``num_clients`` - 1) of each training and each held-out unit.

        Args:
            train: class of each training unit.
            held: class of each held-out unit.
        """
        result = np.empty(len(train), np.int64), np.empty(len(held), np.int64)
        for label in np.union1d(train, held):
            shares = rng.dirichlet(np.full(num_clients, self.alpha))
            for labels, owner in zip((train, held), result, strict=True):
                members = labels == label
                owner[members] = rng.choice(num_clients, int(members.sum()), p=shares)
        return result
