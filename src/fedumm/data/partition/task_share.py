"""``task:SHARE``: some clients have a single task, the others all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedumm.data.partition.base import Ints, Mask, Partitioner
from fedumm.data.partition.registry import by_labels

if TYPE_CHECKING:
    from fedumm.config import FederateConfig


@dataclass(frozen=True)
class TaskShare(Partitioner):
    """A ``share`` of the clients, drawn at random, has a single task; the rows of a task are split by ``within``.

    The first client drawn has the first task in alphabetical order, the second one the second, and so on in turn.

    Example:
        >>> from fedumm.data.partition.iid import Iid
        >>> TaskShare(0.5, Iid()).holders(["t2i", "vqa"], 4, np.random.default_rng(0)).sum(1)
        array([3, 3])
    """

    share: float
    within: Partitioner
    name = "task"

    @classmethod
    def from_config(cls, config: FederateConfig, argument: str) -> TaskShare:
        """Of ``task:SHARE``, with the split that the other options ask for within each task."""
        return cls(float(argument), by_labels(config))

    @property
    def description(self) -> str:
        """Both."""
        return f"task:{self.share:g} and {self.within.description}"

    def holders(self, tasks: Sequence[str], num_clients: int, rng: np.random.Generator) -> Mask:
        """One task for each client that is drawn, in turn."""
        has = np.ones((len(tasks), num_clients), bool)
        drawn = rng.permutation(num_clients).tolist()[: round(self.share * num_clients)]
        for place, client in enumerate(drawn):
            has[:, client] = False
            has[place % len(tasks), client] = True
        return has

    def owners(self, train: Ints, held: Ints, num_clients: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """As ``within`` says."""
        return self.within.owners(train, held, num_clients, rng)
