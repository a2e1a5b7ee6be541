"""From checked options to a running or an exported job."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedumm.backends.registry import BACKENDS
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.assignment import data_owners, names_of
from fedumm.federation.runners.resumption import resume_point, what_is_saved
from fedumm.report.console import RunConsole
from fedumm.report.run_folder import (
    CLIENTS,
    METRICS,
    RunFolder,
    check_free,
    create,
    folder_for,
    lock_run,
    reopened,
)
from fedumm.report.time_left import TimeLeft
from fedumm.report.unused import remove_unused
from fedumm.run_events import RunListener
from fedumm.run_options import told_options
from fedumm.shell import quoted
from fedumm.stopping import exit_status
from fedumm.trackers import TENSORBOARD
from fedumm.trackers.tracking import Tracking

if TYPE_CHECKING:
    from fedumm.training.data_check import DataReport
    from fedumm.training.stock import Stock


def run(
    config: FederateConfig,
    command: str,
    listeners: Sequence[RunListener] = (),
    console: RunConsole | None = None,
    stock: Stock | None = None,
) -> int:
    """Run in process or in FLARE's simulator, with the run folder and the screen.

    Args:
        config: the run's options.
        command: what starts such a run in a shell, for ``config.yaml``.
        listeners: are told what happens, after the run folder.
        console: shows what happens.
        stock: data and models that runs of this process share.

    Returns:
        The command's exit status.

    Raises:
        FedummError: the run failed, or there are listeners to a run in FLARE's simulator.
    """
    if listeners and not config.in_process:
        raise FedummError("Listeners need in_process: with --simulator a run is in other processes than they are.")
    path, console = folder_for(config), console or RunConsole(time_left=TimeLeft.of(config))
    if config.simulator:
        from fedumm.federation.runners.flare.environment import check_environment
        from fedumm.federation.runners.flare.simulator import check_path
        from fedumm.training.preflight import check_hub

        check_path(path)
        check_environment(config)
        for client in data_owners(config):
            check_hub(config.of_client(client))
    data = None if config.resume else checked_data(path, config, console, stock)
    lock = lock_run(path) if config.resume else create(path, config, command)
    try:
        if data:
            from fedumm.training.data_check import save_reports

            save_reports(data, path)
            status = _carry_out(path, config, listeners, console, stock)
            for client, report in data.items() if not status else ():
                if limit := report.eval.limit:
                    whose = f"{client}'s" if client else "these"
                    console.line(f"No model can reach more than {limit} on {whose} test answers (data.json).")
            return status
        records = resume_point(path, config)
        with reopened(path, config, records):
            return _carry_out(path, config, listeners, console, stock, records)
    finally:
        lock.release()


def checked_data(
    path: Path, config: FederateConfig, console: RunConsole, stock: Stock | None = None
) -> dict[str, DataReport]:
    """Look at the data and tell, before anything that lies in the run's folder is replaced.

    Returns:
        What was found; by client where each has data of its own, else for the empty name.

    Raises:
        FedummError: the folder is not free, or the data are bad or can't be split so.
    """
    from fedumm.training.data import partition_for
    from fedumm.training.data_words import say
    from fedumm.training.stock import Stock

    check_free(path, config.overwrite)
    stock, reports, names = stock or Stock(), {}, names_of(config)
    with console:
        for client in data_owners(config):
            try:
                splits, reports[client] = stock.checked(config.of_client(client), console.progress)
                partition_for(config, splits.train, names, client)
            except FedummError as error:
                raise (FedummError(f"{client}: {error}") if client else error) from error
            say(reports[client], config, console.line, client)
    return reports


def _carry_out(
    path: Path,
    config: FederateConfig,
    listeners: Sequence[RunListener],
    console: RunConsole,
    stock: Stock | None,
    kept: int = 0,
) -> int:
    """The run itself; what it records comes after what is in ``metrics.jsonl``, of which ``kept`` records are told."""
    begun = _size(path / METRICS)
    summaries: list[dict[str, Any]] = []
    shown = count()
    tracking = Tracking([name for name in config.trackers if name != TENSORBOARD], path, console.line)

    def show(record: dict[str, Any]) -> None:
        # Of a simulation, all of the file is shown.
        if next(shown) >= (kept if config.simulator else 0):
            tracking.on_record(record)
        if record["event"] == "summary":
            summaries.append(record)
        else:
            console.show(record)

    try:
        with console:
            console.line(f"Run folder: {path}")
            console.progress("starting", 0, 1)
            tracking.start(told_options(config))
            if config.in_process:
                from fedumm.federation.runners.in_process import run_in_process

                run_in_process(config, RunFolder(path, config, show), console.progress, listeners, stock)
            else:
                from fedumm.federation.runners.flare.isolation import can_isolate
                from fedumm.federation.runners.flare.simulator import run_simulator, warning

                isolated = can_isolate()
                if text := warning(isolated):
                    console.line(text)
                run_simulator(path, show, console.progress, config.plugin, isolated)
    except KeyboardInterrupt as stop:
        if stock is None:  # a study says how it goes on
            print(f"\nStopped. {what_is_saved(path, config)}", file=sys.stderr)
        return exit_status(stop)
    except FedummError as error:
        if _size(path / METRICS) > begun:
            raise type(error)(f"{error}\n{what_is_saved(path, config)}") from error
        if not begun:
            remove_unused(path)
        raise
    finally:
        tracking.finish(failed=not summaries)
    return told_at_end(path, config, console, summaries[-1] if summaries else None)


def told_at_end(path: Path, config: FederateConfig, console: RunConsole, summary: Mapping[str, Any] | None) -> int:
    """Show the result and where it is, and make the report; returns the command's exit status."""
    console.finished(
        path,
        summary,
        config.tasks if BACKENDS.is_shipped(config.model_backend) else (),
        own=(path / CLIENTS).is_dir() and any((path / CLIENTS).glob("*/adapter")),
    )
    return _report(path, config, console)


def _report(path: Path, config: FederateConfig, console: RunConsole) -> int:
    """Make the run's report and say where it is; that it can't be made is told, and no error."""
    from fedumm.report.page.making import report_at_end

    with console:
        try:
            lines = report_at_end(path, config, console.progress)
        except KeyboardInterrupt as stop:
            print(f"\nStopped. The run is finished, without its report: fedumm report {path}", file=sys.stderr)
            return exit_status(stop)
        for line in lines:
            console.line(line)
    return 0


def _size(path: Path) -> int:
    """In bytes; 0 if it is not there."""
    return path.stat().st_size if path.exists() else 0


def export(config: FederateConfig) -> int:
    """Write the FLARE job folder and say what is to be done with it. No model or data is loaded."""
    from fedumm.federation.runners.flare.job_options import stays_here
    from fedumm.federation.runners.flare.recipe import SERVER_CLASSES, SITE_CLASSES

    job = write_job(config)
    print(f"Job for {config.num_clients} sites written to {job}. Submit it with:")
    print(f"  nvflare job submit -j {quoted(job)}")
    print("Server and sites need fedumm installed, and these classes in class_allow_list of local/resources.json:")
    print(f"  server: {', '.join(SERVER_CLASSES)}   sites: {', '.join(SITE_CLASSES)}")
    if own := stays_here(config):
        print(f"Not in the job, since each machine sets its own: {', '.join(f'--{name}' for name in own)}.")
    return 0


def write_job(config: FederateConfig, resumes: str = "") -> Path:
    """Write the FLARE job into ``config.export_dir``; returns its folder.

    Args:
        resumes: number of the first job of the run that this job resumes.

    Raises:
        FedummError: the job would hold code or a path of this machine, or can't be written there.
    """
    if config.plugin:
        raise FedummError(
            "--plugin can't travel in a job: install what it registers on the server and every site, as a package with "
            "an entry point in a group such as 'fedumm.backends' or 'fedumm.aggregators'."
        )
    from fedumm.federation.runners.flare.recipe import FedummRecipe, is_our_job, job_name

    job = Path(config.export_dir) / job_name(config)
    if job.is_symlink() or (job.exists() and not is_our_job(job)):
        raise FedummError(f"{job} exists and is not a job exported by fedumm. Choose another --export_dir or --name.")
    if job.exists() and not config.overwrite:
        raise FedummError(f"The job {job} exists. Choose another --name, or replace it with --overwrite.")
    try:
        FedummRecipe(config, resumes=resumes).export(config.export_dir)
    except OSError as error:
        raise FedummError(f"--export_dir {config.export_dir} can't be written to: {error}") from error
    return job
