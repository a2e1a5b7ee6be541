"""What the server remembers from round to round beside tensors, and what was saved of a run that is resumed."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedumm.adapters import AdapterState
from fedumm.aggregation import get_aggregator
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.protocol.backbone_delta import unpack_backbone_delta
from fedumm.federation.server.checkpoint import Checkpoint
from fedumm.federation.server.scoreboard import Scoreboard
from fedumm.federation.server.validation import Accepted, digest


@dataclass
class RunState:
    """Changes while a round ends, and is saved then; :meth:`load` is the inverse of :meth:`facts`.

    Attributes:
        fingerprint: of the data's split; a run is resumed with the same data only.
        fingerprints: of data that are hosts' own, by host: in a resumed run some of these may be missing or new.
        scoreboard: what the versions so far scored.
        began: when the run began, by :func:`time.monotonic`; for a resumed one, as if it had never stopped.
        round: the last finished one.
        last_accepted_round: by client, the round of its last accepted update.
        digests: by client, the digest of that update.
        records: how many records there are up to the end of that round.
        ended: ``--patience`` has ended the run after it.
    """

    fingerprint: str
    fingerprints: dict[str, str]
    scoreboard: Scoreboard
    began: float
    round: int = 0
    last_accepted_round: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    records: int = 0
    ended: bool = False

    @property
    def elapsed(self) -> float:
        """Seconds."""
        return time.monotonic() - self.began

    def finish_round(self, round_number: int, accepted: Iterable[Accepted], records: int) -> None:
        """A round is over that used these updates; there are ``records`` records now."""
        self.round, self.records = round_number, records
        for one in accepted:
            self.last_accepted_round[one.update.client] = round_number
            self.digests[one.update.client] = digest(one.update)

    def facts(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "round": self.round,
            "fingerprint": self.fingerprint,
            "fingerprints": self.fingerprints,
            **self.scoreboard.facts(),
            "last_accepted_round": self.last_accepted_round,
            "digests": self.digests,
            "elapsed": self.elapsed,
            "records": self.records,
            "ended": self.ended,
        }

    def load(self, facts: Mapping[str, Any], withdrawn: Collection[str] = ()) -> None:
        """Restore what :meth:`facts` gave.

        Args:
            withdrawn: hosts of whose data nothing is kept any more.

        Raises:
            FedummError: the data are others.
        """
        known: dict[str, str] = {host: own for host, own in facts["fingerprints"].items() if host not in withdrawn}
        if not known and facts["fingerprint"] != self.fingerprint:
            raise FedummError("The data are not those that this run began with: it can't be resumed.")
        for host, own in self.fingerprints.items():
            if known.get(host, own) != own:
                raise FedummError(f"{host} does not have the data that it began with: this run can't be resumed.")
        self.fingerprints = {**known, **self.fingerprints}
        self.round, self.records, self.ended = facts["round"], facts["records"], facts["ended"]
        self.scoreboard.load(facts)
        self.last_accepted_round, self.digests = facts["last_accepted_round"], facts["digests"]
        self.began = time.monotonic() - facts["elapsed"]


@dataclass(frozen=True)
class SavedRun:
    """A run that stopped after a finished round.

    Attributes:
        tensors: of :meth:`fedumm.federation.server.round_aggregation.RoundAggregation.state`.
        facts: of :meth:`RunState.facts`.
        changes: what the backbone grew by in each finished round.
    """

    tensors: AdapterState = field(repr=False)
    facts: dict[str, Any]
    changes: list[bytes] = field(repr=False)


def load_saved_run(checkpoint: Checkpoint, config: FederateConfig) -> SavedRun | None:
    """What there is to resume from; None if no round was finished.

    Raises:
        FedummError: it is damaged.
    """
    saved = checkpoint.load()
    if saved is None:
        return None
    tensors, facts = saved
    changes: list[bytes] = []
    if get_aggregator(config.aggregator).updates_base_model:
        changes = checkpoint.changes(facts["round"])
    for number, change in enumerate(changes, start=1):
        try:
            unpack_backbone_delta(change)
        except ValueError as error:
            raise FedummError(
                f"The change of round {number} is damaged ({error}): this run can't be resumed."
            ) from error
    return SavedRun(tensors, facts, changes)
