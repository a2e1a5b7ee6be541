"""What a study shows on the screen: one line for each run, and on a terminal two bars, of the study and of its run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from fedumm.report.console import RunConsole

_STUDY, _RUN = "study", "run"


class StudyConsole(RunConsole):
    """Keeps a run's own lines and table off the screen; its folder has them."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console)
        self._stage = ""
        # Without rich's time left: steps of a study differ too much for it, and the study knows better.
        self._progress = Progress(
            TextColumn("  {task.description}", markup=False), BarColumn(bar_width=20),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            console=self.console, transient=True, disable=not self._live,
        )  # fmt: skip

    def __enter__(self) -> StudyConsole:
        """Runs enter it, too: the bars stay."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def start(self) -> None:
        """Show the bars."""
        super().__enter__()

    def stop(self) -> None:
        """Take them away."""
        super().__exit__(None, None, None)

    def tell(self, text: str) -> None:
        """Print a line of the study."""
        super().line(text)

    def line(self, text: str) -> None:
        """A line of a run."""

    def study(self, text: str, done: int, total: int) -> None:
        """Show how far the study is; on a terminal only."""
        self._stage = ""
        if self._live:
            super().progress(text, done, total, _STUDY)

    def progress(self, text: str, done: int, total: int, host: str = "") -> None:
        """Show what the present run is doing; on a terminal only."""
        if self._live:
            super().progress(f"{self._stage}{text}", done, total, _RUN)

    def show(self, record: Mapping[str, Any]) -> None:
        """Of a run's records, the round is shown."""
        if record["event"] == "round":
            self._stage = f"round {record['round']}/{record['rounds']} done, "

    def finished(self, folder: Path, summary: Mapping[str, Any] | None, tasks: Any = (), own: bool = False) -> None:
        """The study tells what a run reached."""
