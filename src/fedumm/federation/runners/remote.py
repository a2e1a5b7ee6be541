"""Runs at a server that is up: submitted to it, watched here, and brought into a run folder."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.runners.flare.job_options import options_of_result
from fedumm.federation.runners.flare.jobs import COMPLETED, ConnectionLostError, JobSession, JobState
from fedumm.federation.runners.flare.kept_run import JOB, run_of
from fedumm.federation.runners.flare.watching import Watcher, as_records
from fedumm.federation.runners.launch import told_at_end, write_job
from fedumm.federation.runners.received import error_of, records_of, take
from fedumm.files import write_atomically
from fedumm.report.console import RunConsole
from fedumm.report.run_folder import METRICS, check_free, create, folder_for, folder_for_name
from fedumm.report.unused import remove_unused
from fedumm.run_options import told_options
from fedumm.shell import quoted
from fedumm.stopping import exit_status
from fedumm.trackers import TENSORBOARD
from fedumm.trackers.tracking import Tracking


def submit(config: FederateConfig, command: str, kit: Path, detach: bool = False, resumes: str = "") -> int:
    """Hand in a job for ``config`` as the administrator with the startup kit ``kit``, and watch it into a run folder.

    Args:
        detach: do not watch.
        resumes: the run that the job goes on with.

    Returns:
        The command's exit status.

    Raises:
        FedummError: no such server, a job that it does not take, or one that failed.
    """
    path, console = folder_for(config), RunConsole()
    if not detach:
        check_free(path, config.overwrite)
    with JobSession(kit) as session, tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        if resumes:
            session.state(resumes)  # a number that nobody has would begin a run
        folder = write_job(replace(config, export_dir=place, overwrite=False), resumes)
        console.line(_who([s for s in session.connected() if s not in config.withdrawn], config.num_clients, folder))
        watched = Watched(session, session.submit(folder), console, config.name)
        console.line(f"Job {watched.job} ({folder.name})")
        if detach:
            console.line(f"Watch it with: {watched.again}")
            return 0

        def make(received: Path | None = None) -> FederateConfig:
            stack.callback(create(path, config, command).release)
            write_atomically(path / JOB, json.dumps({"run": run_of(watched.job, resumes)}))
            return config

        console.line(f"Run folder: {path}")
        if (path / JOB).is_file():
            # What the run had so far stays until its server has sent more.
            return watched.or_left(path, lambda got: make() if (got / METRICS).is_file() else config, config)
        make()
        stack.callback(remove_unused, path)
        return watched.or_left(path, lambda received: config, config)


def watch(job: str, kit: Path, name: str, overwrite: bool, command: str) -> int:
    """Show a job as it runs, then fetch its result into the run folder ``name``.

    Returns:
        The command's exit status.

    Raises:
        FedummError: no such server or job, or one that failed.
    """
    path, console = folder_for_name(name or f"job-{job[:8]}"), RunConsole()
    with JobSession(kit) as session:
        state = session.state(job)
        check_free(path, overwrite)
        console.line(f"Job {job} ({state.name}): {state.status}")
        with ExitStack() as stack:

            def make(received: Path) -> FederateConfig:
                config = replace(options_of_result(received), overwrite=overwrite)
                stack.callback(create(path, config, command).release)
                return config

            return Watched(session, job, console, name).or_left(path, make)


def _who(connected: Sequence[str], expected: int, job: Path) -> str:
    """Which sites are connected, and what becomes of the job where some are not."""
    names = f"connected: {', '.join(connected)}" if connected else "no site is connected"
    missing = expected - len(connected)
    if missing <= 0:
        return names
    needed = json.loads((job / "meta.json").read_text(encoding="utf-8"))["min_clients"]
    if len(connected) >= needed:
        return f"{names}; {missing} of {expected} are not: the job starts without them."
    return (
        f"{names}; {missing} of {expected} are not, and the job needs {needed}. It starts once they are; NVIDIA FLARE "
        "tries ten times, less and less often, and then gives it up."
    )


@dataclass
class Watched:
    """A job that is watched from here.

    Attributes:
        session: with its server.
        job: its number.
        console: shows it.
        name: of the run folder, as the user gave it.
        check: raises when there is no use in waiting any longer.
        resumable: its server keeps what another job could go on with.
    """

    session: JobSession
    job: str
    console: RunConsole
    name: str = ""
    check: Callable[[], None] = field(default=lambda: None)
    resumable: bool = True

    @property
    def again(self) -> str:
        """The command that watches it."""
        name = f" --name {quoted(self.name)}" if self.name else ""
        return f"fedumm watch {self.job} --startup_kit {quoted(self.session.kit)}{name}"

    def or_left(self, path: Path, make: Callable[[Path], FederateConfig], config: FederateConfig | None = None) -> int:
        """As :meth:`into`; but the user may stop watching, and the job goes on."""
        try:
            with self.console:
                return self.into(path, make, config)
        except KeyboardInterrupt as stop:
            print(f"\nNo longer watched; the job goes on.\n{self._ways()}", file=sys.stderr)
            return exit_status(stop)
        except ConnectionLostError as error:
            raise FedummError(f"{error}\nThe job may go on.\n{self._ways()}") from error

    def _ways(self) -> str:
        kit = quoted(self.session.kit)
        return (
            f"Watch it again:  {self.again}\nEnd it:          nvflare job abort {self.job} --startup-kit {kit} --force"
        )

    def into(self, path: Path, make: Callable[[Path], FederateConfig], config: FederateConfig | None = None) -> int:
        """Show it to its end and take its result.

        Args:
            path: the run folder.
            make: is given the folder of the result and gives the run's options; ``path`` is there after that.
            config: those options, where they are known before; their trackers are told.

        Returns:
            The command's exit status.

        Raises:
            FedummError: the job failed; what it recorded is in ``path`` all the same.
        """
        own = [name for name in config.trackers if name != TENSORBOARD] if config else []
        tracking = Tracking(own, path, self.console.line)
        done = False
        try:
            if config:
                tracking.start(told_options(config))
            watcher = Watcher(self.session, self.job, self.console, tracking.on_record, self.check)
            state = watcher.watch()
            self.console.progress("fetching the result", 0, 1)
            with tempfile.TemporaryDirectory() as place:
                received = self._received(state, Path(place))
                records = records_of(received)
                watcher.show_rest(records)
                error, options = error_of(received), make(received)
                take(received, path, options, self.console.show)
            summary = records[-1] if records and records[-1]["event"] == "summary" else None
            if state.status != COMPLETED or summary is None:
                raise FedummError(
                    _why(self.job, state, error, path if records else None, bool(summary), self._resumable(options))
                )
            done = True
        finally:
            tracking.finish(failed=not done)
        with as_records("summary"):
            status = told_at_end(path, options, self.console, summary)
        self.console.line(f"Job {self.job}: {state.status}")
        return status

    def _resumable(self, config: FederateConfig) -> bool:
        return self.resumable and config.dp != "local"

    def _received(self, state: JobState, place: Path) -> Path:
        try:
            return self.session.download(self.job, place)
        except ConnectionLostError:
            raise
        except FedummError as error:
            if state.status == COMPLETED:
                raise
            raise FedummError(_why(self.job, state, str(error), None)) from error


def _why(job: str, state: JobState, error: str, kept: Path | None, whole: bool = False, resumable: bool = False) -> str:
    """How a job ended that did not complete, or brought no result."""
    what = "though all of its rounds were done" if whole else "without a result"
    told = [f"The job {job} ended as {state.status}, {what}.", *filter(None, [error]), *state.reasons]
    if kept:
        told.append(f"What it recorded until then is in {kept}.")
        if resumable and not whole and (kept / JOB).is_file():
            told.append(f"It can go on from there: fedumm submit --resume {quoted(kept)}, with the startup kit.")
    return "\n".join(told)
