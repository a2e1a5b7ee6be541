"""In a notebook, progress is one line that changes; IPython is stood in for, and only its public display is used."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from fedumm.report.console import RunConsole


class Outputs:
    """The outputs below a cell, as ``IPython.display.display`` makes and updates them."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def display(self, *given: Any, raw: bool = False, display_id: bool = False, **_: Any) -> Any:
        place = len(self.shown)
        self.shown.append("")

        def update(bundle: Any, raw: bool = False) -> None:
            self.shown[place] = bundle["text/plain"]

        (bundle,) = given
        update(bundle if raw else bundle._repr_mimebundle_((), ()))
        return SimpleNamespace(update=update) if display_id else None


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Outputs:
    outputs = Outputs()
    package, part = ModuleType("IPython"), ModuleType("IPython.display")
    part.display = outputs.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", part)
    return outputs


def test_one_line_changes_above_what_is_printed(cell: Outputs, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("fedumm.report.notebook_line.time.monotonic", lambda: now[0])
    with RunConsole(Console(force_jupyter=True)) as console:
        console.progress("training site-1\x1b[2J", 0, 40)
        console.line("Run folder: here")
        assert len(cell.shown) == 2
        now[0] += 10
        console.progress("training site-1", 10, 40)
        assert cell.shown[0].startswith("training site-1")
        assert cell.shown[0].endswith("10/40  30 s left")
        assert cell.shown[0].count("█") == 6
        now[0] += 0.01
        console.progress("training site-1", 11, 40)
        assert "10/40" in cell.shown[0], "nobody reads so fast"
        console.progress("training site-1", 40, 40)
        assert cell.shown[0].endswith("40/40")
        now[0] += 5
        console.progress("scoring", 1, 8)
        assert cell.shown[0].endswith("1/8"), "another work begins anew"
    assert cell.shown == ["", "Run folder: here\n"]
