"""What a partitioner is. A new one is a file beside this one, or a class of a user's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from fedumm.errors import FedummError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

    from fedumm.config import FederateConfig

Ints: TypeAlias = "NDArray[np.int64]"
Mask: TypeAlias = "NDArray[np.bool_]"


class Partitioner(ABC):
    """Decides which client owns each unit (a row, or an image with all its rows).

    What every split has to keep is not its business (:mod:`fedumm.data.partition.split`): held-out images, tasks that
    are split by themselves, rare classes, clients without a unit.
    """

    name: ClassVar[str] = ""
    """What ``--partition`` calls it; registration sets it."""

    @classmethod
    def from_config(cls, config: FederateConfig, argument: str) -> Self:
        """The partitioner of a run.

        Args:
            argument: what follows the name in ``--partition NAME:ARGUMENT``; may be empty.

        Raises:
            FedummError: the options make no sense for it.
        """
        if argument:
            raise FedummError(f"--partition {config.partition}: {cls.name} takes nothing after a colon.")
        return cls()

    @property
    def description(self) -> str:
        """How reports call the split."""
        return self.name

    def holders(self, tasks: Sequence[str], num_clients: int, rng: np.random.Generator) -> Mask:
        """Which clients have rows of which tasks, shape (tasks, clients); all of all, unless a subclass says otherwise.

        Asked once, before :meth:`owners`, if rows have tasks and units are rows.
        """
        import numpy as np

        return np.ones((len(tasks), num_clients), bool)

    @abstractmethod
    def owners(self, train: Ints, held: Ints, num_clients: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """The client (0 .. ``num_clients`` - 1) of each training and each held-out unit, int64.

        Asked for each task by itself, with as many clients as have it.

        Args:
            train: class of each training unit, int64.
            held: class of each held-out unit, int64.
            rng: the only source of chance: a split must be the same on every host.
        """
