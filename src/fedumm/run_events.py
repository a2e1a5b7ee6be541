"""What happens in a run, told to those who listen: the run folder, and listeners of a user's own.

Example:
    >>> class Losses(RunListener):
    ...     def on_round(self, record: Record) -> None:
    ...         print(record["round"], record["train_loss"])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from fedumm.errors import FedummError

if TYPE_CHECKING:
    import torch

Record = dict[str, Any]
"""One line of ``metrics.jsonl``: ``event`` says which; docs/architecture.md names the others' keys."""


@dataclass(frozen=True)
class PartitionEvent:
    """Who has how much of the data.

    Attributes:
        method: how the data were split.
        fingerprint: tells this split from others.
        clients: by name: ``train`` and ``heldout`` (rows), ``tasks`` and ``labels`` (training rows by task, by label).
    """

    method: str
    fingerprint: str
    clients: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class AdapterEvent:
    """The global adapter at one moment. Its tensors are those of the run: listeners must not change them.

    Attributes:
        which: ``best`` so far, or ``last``.
        version: the rounds that it was trained for; 0 is the untrained one.
        state: its tensors by name.
        adapter_config: PEFT's configuration of it.
        scores: its part of the record ``round``; empty as long as nobody has scored it.
        epsilon: what it has cost of privacy; None without differential privacy.
        rank: its rank, if that is not the one of the options.
        cut: share of its energy (sum of squared singular values) that ``--export_rank`` cut.
        complete: False where clients keep a part of it to themselves.
    """

    which: Literal["best", "last"]
    version: int
    state: Mapping[str, torch.Tensor] = field(repr=False)
    adapter_config: Mapping[str, Any] = field(repr=False)
    scores: Mapping[str, Any] = field(repr=False)
    epsilon: float | None = None
    rank: int | None = None
    cut: float = 0.0
    complete: bool = True


class RunListener:
    """Override what you want to hear. An exception of a listener ends the run, as an error of its own."""

    def on_partition(self, event: PartitionEvent) -> None:
        """The data are split; once, before the first round, and again when a run is resumed."""

    def on_record(self, record: Record) -> None:
        """Every record. Where ``metrics.jsonl`` has null, floats may be NaN here.

        As it is, it passes records on to the methods below.
        """
        methods = {"setup": self.on_setup, "client": self.on_client, "round": self.on_round, "summary": self.on_end}
        if method := methods.get(record["event"]):
            method(record)

    def on_setup(self, record: Record) -> None:
        """All hosts are ready."""

    def on_client(self, record: Record) -> None:
        """A client's update was accepted or rejected; all clients of a round come before its round."""

    def on_round(self, record: Record) -> None:
        """A round is over: its updates are aggregated."""

    def on_end(self, record: Record) -> None:
        """The run is over: the record ``summary``. Not called if it was stopped or failed."""

    def on_adapter(self, event: AdapterEvent) -> None:
        """There is a new best or last adapter."""


class Listeners(RunListener):
    """Passes everything on to several, in their order."""

    def __init__(self, listeners: Iterable[RunListener]) -> None:
        self._listeners = list(listeners)

    def on_partition(self, event: PartitionEvent) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.on_partition(event)

    def on_record(self, record: Record) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.on_record(record)

    def on_adapter(self, event: AdapterEvent) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.on_adapter(event)


class UserListener(RunListener):
    """Passes everything on to a listener of a user's, whose exceptions are told as its own.

    Otherwise the run would take them for faults of its own work: a ``ValueError`` for an update that does not fit.

    Raises:
        FedummError: the listener raised another exception.
    """

    def __init__(self, listener: RunListener) -> None:
        self._listener = listener

    def on_partition(self, event: PartitionEvent) -> None:
        """Pass it on."""
        self._tell(self._listener.on_partition, event)

    def on_record(self, record: Record) -> None:
        """Pass it on."""
        self._tell(self._listener.on_record, record)

    def on_adapter(self, event: AdapterEvent) -> None:
        """Pass it on."""
        self._tell(self._listener.on_adapter, event)

    def _tell(self, hear: Callable[[Any], None], what: Any) -> None:
        try:
            hear(what)
        except FedummError:
            raise
        except Exception as error:
            name = type(self._listener).__name__
            raise FedummError(f"The listener {name} failed: {type(error).__name__}: {error}") from error
