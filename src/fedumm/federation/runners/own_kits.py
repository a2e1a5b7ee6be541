"""A run on kits of its own from start to end: a server and sites that are there for it only.

They are processes of this machine, or steps of the Slurm job in whose batch script this process runs.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.runners.allocation import Allocation
from fedumm.federation.runners.flare import site_host
from fedumm.federation.runners.flare.deployment import Deployment
from fedumm.federation.runners.flare.jobs import ConnectionLostError, JobSession
from fedumm.federation.runners.flare.kept_run import JOB
from fedumm.federation.runners.flare.kits import HERE, SERVER, Kits, new_workspace, provision
from fedumm.federation.runners.flare.poc import job_of, site_policies
from fedumm.federation.runners.kept_beside import KeptBeside
from fedumm.federation.runners.launch import checked_data, told_at_end, write_job
from fedumm.federation.runners.received import records_of, take
from fedumm.federation.runners.remote import Watched
from fedumm.federation.runners.resumption import has_begun, has_rounds, is_finished
from fedumm.report.console import RunConsole
from fedumm.report.run_folder import check_free, create, folder_for
from fedumm.report.unused import remove_unused
from fedumm.stopping import exit_status
from fedumm.temporary import folder_for_sockets

LOGS = "logs"
"""In the run folder: what each of the processes that are started here prints."""

_DIRECT = "no_grpc_proxy"
"""Environment variable of gRPC: hosts that it asks no proxy for, in place of ``no_proxy``."""

_START_SECONDS = 300.0
_EVERY = 0.3


def run_poc(config: FederateConfig, command: str, workspace: str = "") -> int:
    """Provision a server and sites on this machine, start them, run the job on them, end them.

    Args:
        config: the run's options.
        command: what starts such a run in a shell.
        workspace: a new folder for the startup kits, which stay there; empty: a temporary one.

    Returns:
        The command's exit status.

    Raises:
        FedummError: bad data, a process that died, a job that failed.
    """
    path, console = folder_for(config), RunConsole()
    check_free(path, config.overwrite)
    place = new_workspace(Path(workspace)) if workspace else None

    def carry_out() -> int:
        if place:
            return _on_kits(config, path, place, console)
        with folder_for_sockets() as temporary:
            return _on_kits(config, path, Path(temporary), console)

    stopped = "Stopped, with all of its processes. The same command starts from the beginning."
    return _in_run_folder(config, path, console, command, carry_out, stopped)


def run_steps(config: FederateConfig, command: str, allocation: Allocation) -> int:
    """As :func:`run_poc`, but server and sites are steps of the Slurm job in whose batch script this process runs.

    A run that an earlier job began, and did not end, goes on after its last finished round.

    Args:
        config: the run's options, with its name; ``resume`` and ``overwrite`` say what was found in its folder.

    Returns:
        The command's exit status.

    Raises:
        FedummError: bad data, a step that ended, a job that failed, or a run that can't be resumed.
    """
    path, console = folder_for(config), RunConsole()
    kept = KeptBeside(path)
    if config.resume and not kept.run:
        raise FedummError(
            f"{path} holds a run whose server and sites are gone: go on with it by 'fedumm federate --resume', or "
            "choose another --name."
        )
    begun = bool(kept.run) and _can_go_on(kept, path, config)
    # What is in its folder was brought there from what is kept.
    config = replace(config, resume="", overwrite=config.overwrite or begun)
    check_free(path, config.overwrite)

    def carry_out() -> int:
        if begun and is_finished(kept.at_server, config.num_rounds):
            status = _taken(kept.at_server, path, config, console)
        else:
            if not begun:
                kept.remove()
            with kept.kits() as place:
                status = _on_kits(config, path, place, console, _Steps(allocation, kept, command))
        kept.remove()
        return status

    stopped = f"Stopped, with all of its steps. {_goes_on(config)}"
    return _in_run_folder(config, path, console, command, carry_out, stopped)


def _can_go_on(kept: KeptBeside, path: Path, config: FederateConfig) -> bool:
    """Whether what is kept of the run in ``path`` has done rounds after which it can go on.

    Raises:
        FedummError: it can't, or not with these options.
    """
    if not has_rounds(kept.at_server) and not (config.dp == "local" and has_begun(kept.at_server)):
        return False
    kept.check(path, config)
    return True


def _goes_on(config: FederateConfig) -> str:
    if config.dp == "local":
        return "With --dp local it can't be resumed."
    return "Submitted once more, the same job goes on after the last finished round."


def _in_run_folder(
    config: FederateConfig, path: Path, console: RunConsole, command: str, carry_out: Callable[[], int], stopped: str
) -> int:
    """Check the data, and do ``carry_out`` with the run's folder locked; ``stopped`` is told where that is stopped."""
    data = checked_data(path, config, console)
    lock = create(path, config, command)
    try:
        from fedumm.training.data_check import save_reports

        save_reports(data, path)
        console.line(f"Run folder: {path}")
        with console:
            return carry_out()
    except KeyboardInterrupt as stop:
        print(f"\n{stopped}", file=sys.stderr)
        return exit_status(stop)
    finally:
        remove_unused(path)
        lock.release()


@dataclass(frozen=True)
class _Steps:
    """Server and sites as steps of a Slurm job, and what earlier jobs of the run kept of them."""

    allocation: Allocation
    kept: KeptBeside
    command: str

    def prepared(self, kits: Kits, config: FederateConfig) -> tuple[str, dict[str, list[str]]]:
        """The run that the job goes on with, empty for none, and by name the commands that start steps."""
        self.kept.link(kits.all)
        _connect_directly(self.allocation.host)
        return self.kept.run, self.allocation.steps(SERVER, list(kits.sites), config)


def _on_kits(config: FederateConfig, path: Path, place: Path, console: RunConsole, steps: _Steps | None = None) -> int:
    console.progress("making the startup kits", 0, 1)
    policies = site_policies(config)
    sites = list(policies)
    kits = provision(place, policies, steps.allocation.host if steps else HERE)
    resumes, commands = steps.prepared(kits, config) if steps else ("", {})
    job = write_job(replace(job_of(config), export_dir=str(place / "jobs")), resumes)
    (path / LOGS).mkdir()
    with (
        Deployment(kits.all, path / LOGS, commands) as deployment,
        _all_up(kits.admin, sites, deployment, console) as session,
    ):
        console.line(_up(sites, steps))
        number = session.submit(job)
        if steps:
            steps.kept.begin(number, config, steps.command)
        watched = Watched(session, number, console, check=deployment.check, resumable=False)
        try:
            status = watched.into(path, lambda received: config, config)
            (path / JOB).unlink(missing_ok=True)  # its server is gone
            return status
        except FedummError as error:
            more = f"\n{_goes_on(config)}" if steps else ""
            raise FedummError(f"{error}\nWhat the processes printed is in {path / LOGS}.{more}") from error
        finally:
            _keep_logs(kits.sites, path / LOGS)


def _connect_directly(host: str) -> None:
    """Clusters that reach the internet by a proxy name it to all programs: gRPC would ask it for their own nodes."""
    known = os.environ.get(_DIRECT) or os.environ.get("no_proxy", "")
    os.environ[_DIRECT] = ",".join(filter(None, (known, host)))


def _up(sites: Sequence[str], steps: _Steps | None) -> str:
    if not steps:
        return f"A server and {len(sites)} sites are up, each a process with its own startup kit"
    places = ", ".join(f"{site} on {node}" for site, node in steps.allocation.places(sites).items())
    return f"Up, each a step of the job with its own startup kit: {SERVER} on {steps.allocation.nodes[0]}, {places}"


def _taken(finished: Path, path: Path, config: FederateConfig, console: RunConsole) -> int:
    """The result that the server has, and that an earlier job had no time to fetch."""
    with tempfile.TemporaryDirectory() as place:
        received = shutil.copytree(finished, Path(place) / "run")
        records = records_of(received)
        for record in records[:-1]:
            console.show(record)
        take(received, path, config, console.show)
    (path / JOB).unlink(missing_ok=True)
    return told_at_end(path, config, console, records[-1])


def _keep_logs(sites: Mapping[str, Path], logs: Path) -> None:
    """Those of the processes in which sites train, which are in the kits, that may go."""
    for site, kit in sites.items():
        for log in kit.glob(f"fedumm/*/{site_host.LOG}"):
            shutil.copyfile(log, logs / f"{site}-training.log")


def _all_up(kit: Path, sites: Sequence[str], deployment: Deployment, console: RunConsole) -> JobSession:
    """A session with the server, once all sites are connected."""
    end = time.monotonic() + _START_SECONDS
    session: JobSession | None = None
    try:
        while True:
            deployment.check()
            try:
                session = session or JobSession(kit, seconds=5)
                missing = [site for site in sites if site not in session.connected()]
                if not missing:
                    return session
            except ConnectionLostError:
                missing = [SERVER, *sites]
            if time.monotonic() > end:
                raise FedummError(f"Not up after {_START_SECONDS:g} s: {', '.join(missing)}.")
            console.progress("starting server and sites", len(sites) + 1 - len(missing), len(sites) + 1)
            time.sleep(_EVERY)
    except BaseException:
        if session:
            session.close()
        raise
