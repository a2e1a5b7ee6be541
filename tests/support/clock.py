"""A clock that tests set by looking at it."""

from __future__ import annotations

import pytest

from fedumm.training import trainer


class Clock:
    """Stands in for the module ``time`` where training looks at the time: each look is a second later."""

    def __init__(self) -> None:
        self.looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return float(self.looks)


def a_second_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """An optimiser step of a training with a limit takes one second."""
    monkeypatch.setattr(trainer, "time", Clock())
