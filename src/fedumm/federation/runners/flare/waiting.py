"""How long sites are waited for, and what is said meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fedumm.federation.protocol.messages import HostError, Message

SLOWER, LEAST = 5.0, 600.0
"""Without ``--round_timeout`` a site may take so many times as long as the slowest of the others, and never less than
so many seconds."""

LONGEST = 86_400.0
"""Seconds after which it is over also where nobody has answered."""

GRACE = 10.0
"""Seconds that a lost connection may take to come back."""

_FIRST_WORD, _LAST_WORD = 60.0, 600.0
_MOST_NAMES = 5


@dataclass
class Waiting:
    """The answers to one question, while they come.

    Args:
        hosts: who is asked.
        limit: seconds; 0: by what the others take.
        fewest: how many answers make the rest dispensable.
        clock: seconds.

    Attributes:
        answers: those that are there, by host.
        gone: hosts whose connection is lost, since when.
    """

    hosts: Iterable[str]
    limit: float = 0.0
    fewest: int = 1
    clock: Callable[[], float] = time.monotonic
    answers: dict[str, Message] = field(default_factory=dict)
    gone: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.open = list(self.hosts)
        self._begun = self.clock()
        self._slowest, self._good = 0.0, 0
        self._next_word, self._pause = _FIRST_WORD, _FIRST_WORD

    @property
    def seconds(self) -> float:
        """Since the question."""
        return self.clock() - self._begun

    def answered(self, host: str, answer: Message) -> None:
        """``host`` has nothing more to say. Whoever has answered once is not heard again."""
        if host in self.open:
            self.open.remove(host)
            self.answers[host] = answer
            if not isinstance(answer, HostError):  # one that failed says nothing of how long it takes
                self._slowest, self._good = self.seconds, self._good + 1

    def why_over(self) -> dict[str, str]:
        """By host that is not waited for any longer, why; empty while all that are missing are waited for."""
        seconds = self.seconds
        if self.limit and seconds >= self.limit:
            return dict.fromkeys(self.open, f"no answer within {self.limit:g} s (--round_timeout)")
        bound = max(LEAST, SLOWER * self._slowest) if self._good >= max(1, self.fewest) else LONGEST
        if not self.limit and seconds >= bound:
            slowest = f", and the slowest of the others took {self._slowest:.0f} s" if self._good else ""
            return dict.fromkeys(self.open, f"no answer within {seconds:.0f} s{slowest} (--round_timeout)")
        now = self.clock()
        lost = [host for host in self.open if host in self.gone and now - self.gone[host] >= GRACE]
        return dict.fromkeys(lost, "its connection is lost")

    def now(self) -> str:
        """Who is waited for; an empty text if nobody is."""
        still, asked = list(self.open), len(self.open) + len(self.answers)
        if not still:
            return ""
        shown = ", ".join(still[:_MOST_NAMES]) + (
            f" and {len(still) - _MOST_NAMES} more" if still[_MOST_NAMES:] else ""
        )
        return f"waiting for {shown} ({len(self.answers)} of {asked} have answered, {self.seconds:.0f} s)"

    def word(self) -> str:
        """A line on who is waited for: after a minute, and then in growing intervals; empty in between."""
        seconds = self.seconds
        if not self.open or seconds < self._next_word:
            return ""
        self._pause = min(2 * self._pause, _LAST_WORD)
        self._next_word = seconds + self._pause
        return self.now()
