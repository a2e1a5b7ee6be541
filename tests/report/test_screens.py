"""The screen of a run: narrow, before a round is over, and when nothing was learnt."""

from __future__ import annotations

import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from fedumm.report import console as console_module
from fedumm.report import time_left as time_left_module
from fedumm.report.console import NO_BETTER, RunConsole
from fedumm.report.time_left import TimeLeft
from support.records import HEADINGS, ROUND, SETUP


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time that passes only when the test says so."""
    now = SimpleNamespace(seconds=0.0)
    for module in (console_module, time_left_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def cells(line: str) -> list[str]:
    return re.split(r" {2,}", line.strip())


@pytest.mark.parametrize(
    ("width", "gone"),
    [
        (80, ["seconds", "MB down", "MB up"]),
        (119, []),
        (60, ["train loss", "clients", "seconds", "MB down", "MB up"]),
    ],
)
def test_on_a_narrow_terminal_a_round_is_one_line_still(width: int, gone: list[str]) -> None:
    file = io.StringIO()
    console = RunConsole(Console(file=file, width=width, force_terminal=True, highlight=False))
    console.show(ROUND)
    lines = file.getvalue().splitlines()
    assert all(len(line) <= width for line in lines[-2:])
    assert cells(lines[-2]) == [name for name in HEADINGS if name not in gone]
    told = f"(no room here for {', '.join(gone)}: see metrics.jsonl, or a wider terminal)"
    assert lines[:-2] == ([told] if gone else [])


def test_before_the_first_round_is_over_the_time_of_all_is_estimated(clock: SimpleNamespace) -> None:
    """2 clients of 100 rows, 3 rounds of 2 epochs: 1,200 samples in all; 100 of them took 10 s."""
    file = io.StringIO()
    console = RunConsole(Console(file=file, width=160), TimeLeft(rounds=3, epochs=2))
    sizes = {"train": 100, "heldout": 10, "tasks": {}}
    console.show({**SETUP, "clients": {"site-1": sizes, "site-2": sizes}})
    clock.seconds = 1.0
    console.progress("training site-1  loss 0.7", 50, 200)
    clock.seconds = 32.0
    console.progress("training site-1  loss 0.7", 200, 200)
    console.progress("training site-2  loss 0.7", 120, 200)
    assert file.getvalue().splitlines()[-1] == "  ... training site-1  loss 0.7  (about 3 min left in all)  200/200"
    clock.seconds = 64.0
    console.progress("training site-2  loss 0.7", 120, 200)
    # 64 s for 320 of 1,200 samples: 176 s for the others.
    assert file.getvalue().splitlines()[-1] == "  ... training site-2  loss 0.7  (about 3 min left in all)  120/200"
    console.show(ROUND)
    clock.seconds = 100.0
    console.progress("training site-1  loss 0.7", 10, 200)
    assert file.getvalue().splitlines()[-1] == "  ... training site-1  loss 0.7  10/200"


def test_a_client_whose_time_is_bounded_takes_no_longer(clock: SimpleNamespace) -> None:
    """Six times a client trains, 60 s each, however little of its samples it gets done."""
    file = io.StringIO()
    console = RunConsole(Console(file=file, width=160), TimeLeft(rounds=3, epochs=2, most=60.0))
    sizes = {"train": 100, "heldout": 10, "tasks": {}}
    console.show({**SETUP, "clients": {"site-1": sizes, "site-2": sizes}})
    clock.seconds = 1.0
    console.progress("training site-1  loss 0.7", 1, 200)
    clock.seconds = 37.0
    console.progress("training site-1  loss 0.7", 20, 200)
    # 37 s for 0.6 of a sixth of the run: 333 s for the others.
    assert file.getvalue().splitlines()[-1] == "  ... training site-1  loss 0.7  (about 6 min left in all)  20/200"
    clock.seconds = 62.0
    console.progress("training site-2  loss 0.7", 1, 200)
    clock.seconds = 92.0
    console.progress("training site-2  loss 0.7", 180, 200)
    # One that is faster than its limit is taken at its own speed: 92 s for 1.9 sixths.
    assert file.getvalue().splitlines()[-1] == "  ... training site-2  loss 0.7  (about 3 min left in all)  180/200"


@pytest.mark.parametrize(("best", "last", "told"), [(0, 3, True), (2, 3, False), (0, 0, False)])
def test_a_run_that_learnt_nothing_says_what_to_try(best: int, last: int, told: bool) -> None:
    file = io.StringIO()
    scores: dict[str, Any] = {"heldout_tasks": {}, "test_tasks": {"vqa": {"score": 0.5}}, "heldout_clients": {}}
    summary = {"roster": 2, "untrained": scores, "best": scores | {"round": best}, "last": scores | {"round": last}}
    RunConsole(Console(file=file, width=160)).finished(Path("runs/x"), summary)
    assert (NO_BETTER in file.getvalue()) is told
