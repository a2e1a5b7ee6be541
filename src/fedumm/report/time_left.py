"""How long a run still takes, as long as no round of it is over: afterwards the rounds themselves say it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedumm.config import FederateConfig

_TRAINING = "training "
"""How the progress of a client's training begins; its name follows."""

_LEAST_SECONDS, _LEAST_SHARE = 3.0, 0.02
"""Before so much time and so much of the round has passed, nothing is said."""


@dataclass
class TimeLeft:
    """The samples that clients train on, against the time since the set-up.

    Attributes:
        rounds, epochs: of the run, and of a client in a round.
        drawn: clients that train in a round; None: all.
        most: seconds that a client trains in a round; infinite without a limit.
    """

    rounds: int
    epochs: int
    drawn: int | None = None
    most: float = math.inf
    _work: float = 0.0
    _start: float = 0.0
    _done: dict[str, int] = field(default_factory=dict)
    _present: dict[str, tuple[str, int]] = field(default_factory=dict)
    _since: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, config: FederateConfig) -> TimeLeft:
        """For a run with these options."""
        most = 60 * config.round_minutes or math.inf
        return cls(config.num_rounds, config.local_epochs, config.clients_per_round or None, most)

    def begin(self, setup: Mapping[str, Any]) -> None:
        """All hosts are ready."""
        sizes = [client["train"] for client in setup["clients"].values()]
        share = min(1.0, self.drawn / len(sizes)) if self.drawn and sizes else 1.0
        self._work, self._start = sum(sizes) * self.epochs * share, time.monotonic()

    def note(self, host: str, text: str, done: int, total: int) -> None:
        """What a host is doing now."""
        if not text.startswith(_TRAINING):
            return
        client = text.removeprefix(_TRAINING).split(" ", 1)[0]
        before, whole = self._present.get(host, (client, total))
        if before != client:
            self._done[before] = whole
            del self._since[host]
        self._present[host] = client, total
        passed = time.monotonic() - self._since.setdefault(host, time.monotonic())
        # One that has used up its time is through, whatever it has done.
        self._done[client] = max(done, int(total * min(1.0, passed / self.most)))

    def seconds(self) -> float | None:
        """About how many there are left; None: too little is known."""
        done, passed = sum(self._done.values()), time.monotonic() - self._start
        if not self._work or passed < _LEAST_SECONDS or done < _LEAST_SHARE * self._work:
            return None
        return passed / done * max(0.0, self._work * self.rounds - done)
