"""Following a job at a server from here: its records as they come, then how it ended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from fedumm.errors import FedummError
from fedumm.federation.runners.flare.jobs import RUNNING, ConnectionLostError, JobSession, JobState
from fedumm.report.console import RunConsole
from fedumm.run_events import Record

_SOON, _LATE, _SLOWER = 0.5, 5.0, 1.3
"""Seconds between two questions: after something new, and at most; each is that many times the one before."""

_STATE_EVERY = 3.0
_LONGEST_SILENCE = 180.0
"""Seconds for which a server that does not answer is asked again."""

_LONGEST_MUTE = 1200.0
"""Seconds for which a job may be running and tell nothing: FLARE waits at most 900 for the last site at a job's end."""

_OF_A_RECORD = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a record of another form than ours leads to."""


class Watcher:
    """Asks until the job is over.

    Args:
        session: with the server; when the connection breaks it is made anew.
        job: its number.
        console: shows the records, as those of a run here.
        heard: called with each record, before it is shown.
        check: raises when there is no use in waiting any longer.
    """

    def __init__(
        self,
        session: JobSession,
        job: str,
        console: RunConsole,
        heard: Callable[[Record], None] = lambda record: None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._session, self._job, self._console, self._heard, self._check = session, job, console, heard, check
        self._count = 0
        self._present = "starting"
        self._heard_at = time.monotonic()

    def watch(self) -> JobState:
        """Wait for the end.

        Raises:
            FedummError: the server has no such job, does not answer for minutes, sends what is no record, or calls a
                job running of which nothing is there.
        """
        session, pause, asked, silent = self._session, _SOON, 0.0, 0.0
        state = session.state(self._job)
        self._heard_at = time.monotonic()
        while not state.finished:
            self._check()
            try:
                new = self._show_new() if state.status == RUNNING else 0
                if time.monotonic() - asked > _STATE_EVERY:
                    state, asked = session.state(self._job), time.monotonic()
                silent = 0.0
            except ConnectionLostError:
                silent = silent or time.monotonic()
                if time.monotonic() - silent > _LONGEST_SILENCE:
                    raise
                new = 0
                self._connect_again()
            self._console.progress(self._doing(state, bool(silent)), 0, 1)
            pause = _SOON if new or state.status != RUNNING else min(_LATE, pause * _SLOWER)
            time.sleep(pause)
        return state

    def show_rest(self, records: list[Record]) -> None:
        """Show what a finished job recorded and was not asked for in time."""
        for record in records[self._count :]:
            self._show(record)

    def _show_new(self) -> int:
        records = self._session.records(self._job, self._count)
        if records is not None:
            self._heard_at = time.monotonic()
        elif time.monotonic() - self._heard_at > _LONGEST_MUTE:
            raise FedummError(
                f"The server calls the job {self._job} running, and nothing of it has answered for "
                f"{_LONGEST_MUTE / 60:g} minutes. A server that was started again does not go on with its jobs: resume "
                "it (fedumm submit --resume)."
            )
        for record in records or ():
            self._show(record)
        return len(records or ())

    def _show(self, record: Record) -> None:
        self._count += 1
        with as_records(f"record {self._count} (event {record['event']})"):
            self._heard(record)
            if record["event"] in ("setup", "round"):
                self._present = f"round {record.get('round', 0) + 1}"
            if record["event"] in ("final", "summary"):
                self._present = "all rounds are over; waiting for the end of the job"
            if record["event"] != "summary":  # with the result
                self._console.show(record)

    def _connect_again(self) -> None:
        with contextlib.suppress(ConnectionLostError):
            self._session.connect()

    def _doing(self, state: JobState, silent: bool) -> str:
        if silent:
            return "the server does not answer: trying again"
        if state.status != RUNNING:
            return "; ".join((f"job {state.status.lower()}", *state.reasons))
        return ": ".join(filter(None, (self._present, self._session.waiting)))


@contextlib.contextmanager
def as_records(what: str) -> Iterator[None]:
    """Within it, what a record of another form than ours leads to is a :class:`FedummError`."""
    try:
        yield
    except _OF_A_RECORD as error:
        raise FedummError(
            f"The server's {what} is none of this version of fedumm ({type(error).__name__}). Which one does it run?"
        ) from error
