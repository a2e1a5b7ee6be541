"""What an aggregator is: begin a round, add clients' adapters, finish with what they make together.

Pure objects: no network, no files, no random numbers but from the seed that they are given. Notation as in the
papers: client k has weight p_k (they are normalised here) and trained the factors A_k ``(r_k, in)`` and B_k
``(out, r_k)`` of a module, which add ``s_k B_k A_k`` to its frozen weight W0 ``(out, in)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from fedumm.adapters.factors import Factor
from fedumm.adapters.state import AdapterState
from fedumm.config import AggregatorOptions
from fedumm.errors import FedummError
from fedumm.lazy import torch

if TYPE_CHECKING:
    from typing_extensions import Self

    from fedumm.config import FederateConfig

BackboneDelta: TypeAlias = "dict[str, tuple[torch.Tensor, torch.Tensor]]"
"""Module to ``(left, right)`` of shapes ``(out, q)`` and ``(q, in)``: W0 grows by ``left @ right``."""


@dataclass(frozen=True)
class ClientContribution:
    """One client's part.

    ``adapter`` holds the tensors that the client trained, at its own rank; others are absent. ``weight`` is
    positive, in any unit; ``scale`` is its alpha / rank.
    """

    client: str
    adapter: Mapping[str, torch.Tensor]
    weight: float
    scale: float = 1.0


@dataclass(frozen=True)
class AggregationResult:
    """What a round comes to.

    ``adapter`` is complete, in the names, shapes and dtypes of the one that the round began with; ``change`` is
    what the frozen weights grow by first; ``report`` holds numbers for the log.
    """

    adapter: AdapterState
    change: BackboneDelta = field(default_factory=dict)
    report: dict[str, float] = field(default_factory=dict)


class Aggregator(ABC):
    """A rule that makes one adapter of many. One object serves a whole run, round after round.

    ``add`` may be called in any order of clients, with the same bits in the end.

    Args:
        options: an :attr:`Options` of the class; None, or an :class:`~fedumm.config.AggregatorOptions` itself: their
            defaults.

    Raises:
        FedummError: the options are another aggregator's.
    """

    name: ClassVar[str]
    """What ``--aggregator`` calls it; set by :func:`~fedumm.aggregation.registry.register_aggregator`."""

    Options: ClassVar[type[AggregatorOptions]] = AggregatorOptions
    """The class of its options: :class:`~fedumm.config.AggregatorOptions` with fields of its own."""

    linear: ClassVar[bool] = True
    """The result depends on the updates through their weighted mean alone: noise for privacy can be calibrated to
    one client's part, and a secure sum would do."""

    supports_deltas: ClassVar[bool] = True
    """New factors continue the old ones entry by entry: differences and lost roundings carry over to the next round."""

    unequal_ranks: ClassVar[bool] = False
    updates_base_model: ClassVar[bool] = False

    communicated_factors: ClassVar[frozenset[Factor]] = frozenset({"A", "B"})
    """Factors that travel. Others stay with the client, which keeps its own from round to round."""

    def __init__(self, options: AggregatorOptions | None = None) -> None:
        if options is None or type(options) is AggregatorOptions:
            options = self.Options()
        if type(options) is not self.Options:
            raise FedummError(f"{type(options).__qualname__} are not the options of {type(self).__qualname__}.")
        self.options = options

    @classmethod
    def from_config(cls, config: FederateConfig) -> Self:
        """With the options of a run."""
        return cls(config.aggregator_options)

    def trainable_factors(self, round_number: int) -> frozenset[Factor]:
        """Factors that clients train in round 1, 2, ...; the others stay as they are."""
        return frozenset({"A", "B"})

    @abstractmethod
    def begin(self, adapter: Mapping[str, torch.Tensor], scale: float, seed: int) -> None:
        """Start a round that clients enter with ``adapter`` (at the highest rank), whose alpha / rank is ``scale``.

        Everything of an earlier round is forgotten but what :meth:`state` holds.
        """

    @abstractmethod
    def add(self, contribution: ClientContribution) -> None:
        """Take in one client's part.

        Raises:
            ValueError: the weight is not positive and finite, or a value cannot be taken in.
        """

    @abstractmethod
    def finish(self) -> AggregationResult:
        """The result; what nobody trained keeps its value.

        Raises:
            ValueError: nothing was added.
        """

    def state(self) -> AdapterState:
        """What is carried from one finished round to the next, as named tensors; often nothing."""
        return {}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore what :meth:`state` gave.

        Raises:
            ValueError: ``state`` is of another aggregator.
        """
        if state:
            raise ValueError(f"{self.name} carries nothing from round to round, so this state is not its own")
