"""Carries out the runs of a study, one after the other in this process."""

from __future__ import annotations

import contextlib
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedumm.config import RunConfig
from fedumm.errors import DivergedError, FedummError
from fedumm.files import write_atomically
from fedumm.formatting import percent
from fedumm.report.console import duration
from fedumm.studies.console import StudyConsole
from fedumm.studies.results import DIVERGED, Outcome, outcome
from fedumm.studies.study_run import StudyRun
from fedumm.texts import one_line
from fedumm.training.data_words import say
from fedumm.training.stock import Stock

FINISHED, BEGUN, NEW = "finished", "begun", "to do"
ERRORS = "errors"


@dataclass(frozen=True)
class Job:
    """A run of a study, ready to be carried out.

    Attributes:
        config: its options, all of them.
        path: its folder.
        state: whether it is ``finished``, ``begun`` or ``to do``.
        carry_out: starts or resumes it; returns when it is finished.
    """

    run: StudyRun
    config: RunConfig
    path: Path
    state: str
    carry_out: Callable[[StudyConsole, Stock], None]


@dataclass
class Progress:
    """How long a round takes, by kind of runs, and so how much time is left."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, run: StudyRun, seconds: float) -> None:
        """This run took so long."""
        self.seconds.setdefault(run.kind, []).append(seconds / run.rounds)

    def left(self, runs: Sequence[StudyRun]) -> float | None:
        """Seconds that ``runs`` will take; None as long as nothing is known.

        Of a kind that no finished run is of, the mean of all others stands in.
        """
        every = [one for own in self.seconds.values() for one in own]
        if not every:
            return None
        return sum(run.rounds * statistics.fmean(self.seconds.get(run.kind, every)) for run in runs)

    def text(self, runs: Sequence[StudyRun]) -> str:
        """The time left in words; empty as long as nothing is known."""
        left = self.left(runs)
        return "" if left is None or not runs else f"about {duration(left)} left"


def carry_out(
    jobs: Sequence[Job],
    console: StudyConsole,
    stock: Stock,
    progress: Progress | None = None,
    later: Sequence[StudyRun] = (),
) -> list[str]:
    """Do all that is not finished. A run that fails leaves the others alone; a short one that diverges has not failed.

    Args:
        progress: what is known of the time that runs take.
        later: runs that come after these, for the time left.

    Returns:
        The names of the runs that failed, each with a traceback in the folder ``errors`` beside it.

    Raises:
        KeyboardInterrupt: it was stopped.
    """
    waiting, progress = [job for job in jobs if job.state != FINISHED], progress or Progress()
    for job in jobs:
        if job.state == FINISHED and (known := outcome(job.path, job.run.kind)) and not known.diverged:
            progress.add(job.run, known.seconds)
    total, done, failed, told = len(jobs), len(jobs) - len(waiting), [], None
    if done:
        console.tell(f"{done} of {total} {'short ' * jobs[0].run.short}runs are finished.")
    console.start()
    try:
        for place, job in enumerate(waiting):
            begun, left = time.monotonic(), [*(one.run for one in waiting[place:]), *later]
            console.study(f"{job.run.name}  {progress.text(left)}".rstrip(), done + place, total)
            try:
                _, report = stock.checked(job.config, console.progress)
                if report is not told:
                    say(report, job.config, console.tell)
                    told = report
                job.carry_out(console, stock)
            except Exception as error:
                if job.run.short and isinstance(error, DivergedError):
                    write_atomically(job.path / DIVERGED, f"{one_line(error)}\n")
                    console.tell(f"[{done + place + 1}/{total}] {job.run.name}: diverged, so this learning rate is out")
                    continue
                failed.append(job.run.name)
                console.tell(f"[{done + place + 1}/{total}] {job.run.name} failed: {_keep(error, job.path)}")
                continue
            _error_file(job.path).unlink(missing_ok=True)
            seconds = time.monotonic() - begun
            progress.add(job.run, seconds)
            rest = progress.text(left[1:])
            reached = _reached(outcome(job.path, job.run.kind), job.run)
            spent = ", ".join(filter(None, (duration(seconds), rest)))
            console.tell(f"[{done + place + 1}/{total}] {job.run.name}: {reached} ({spent})")
    finally:
        console.stop()
    return failed


def _reached(own: Outcome | None, run: StudyRun) -> str:
    """Of a short run, what it is for."""
    if own is None:
        return "-"
    return f"{percent(own.heldout)} held out" if run.short else percent(own.scores.get(run.kind))


def _error_file(path: Path) -> Path:
    return path.parent / ERRORS / f"{path.name}.txt"


def _keep(error: Exception, path: Path) -> str:
    """The error in a line; as a whole, it is in a file."""
    file, whole = _error_file(path), "".join(traceback.format_exception(error))
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(whole, encoding="utf-8", errors="backslashreplace")
    return str(error) if isinstance(error, FedummError) else f"{type(error).__name__}: {error} (see {file})"
