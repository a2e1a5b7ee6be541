"""A federation on kits of its own that is up while a test looks at it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from fedumm.config import FederateConfig
from fedumm.federation.runners.flare.deployment import Deployment
from fedumm.federation.runners.flare.jobs import ConnectionLostError, JobSession, JobState
from fedumm.federation.runners.flare.kits import Kits, provision
from fedumm.federation.runners.launch import write_job
from fedumm.report.run_folder import read_records
from fedumm.run_options import from_mapping
from support.processes import wait_for

JOB = Path(__file__).parents[2] / "job.py"


def export(folder: Path, *options: str) -> None:
    """``job.py`` in ``folder``."""
    done = subprocess.run([sys.executable, str(JOB), *options], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Federation:
    """Server, sites and an administrator who is logged in."""

    def __init__(self, folder: Path, kits: Kits, deployment: Deployment, session: JobSession) -> None:
        self.folder, self.kits, self.deployment, self.session = folder, kits, deployment, session

    def run(self, job: Path) -> Path:
        """Submit a job, wait for its end, fetch it; returns the folder of its run."""
        return self.result(self.session.submit(job))

    def submit(self, name: str, **options: Any) -> str:
        """Write a job and hand it in; returns its number."""
        config = from_mapping(FederateConfig, {**options, "name": name, "export_dir": str(self.folder / "jobs")})
        return self.session.submit(write_job(config))

    def over(self, ident: str, seconds: float) -> tuple[JobState, list[dict[str, Any]]]:
        """State and records of a job that must end within ``seconds``, whichever processes are there."""

        def ended() -> JobState | None:
            try:
                state = self.session.state(ident)
            except ConnectionLostError:
                return self.session.connect()
            return state if state.finished else None

        state: JobState = wait_for(ended, seconds)
        with tempfile.TemporaryDirectory() as place:
            return state, list(read_records(self.session.download(ident, Path(place))))

    def kill(self, name: str) -> None:
        """The process of a server or a site, at once. FLARE takes one that nobody has collected for alive."""
        self.deployment.processes[name].kill()
        self.deployment.processes[name].wait()

    def all_up(self, seconds: float = 120) -> None:
        """Start again what has ended, and wait until all sites are connected."""
        for name, process in self.deployment.processes.items():
            if process.poll() is not None:
                self.deployment.start(name)
        wait_for(lambda: set(self.session.connected()) == set(self.kits.sites), seconds)

    def rounds(self, ident: str, number: int, clients: int = 0, seconds: float = 400) -> None:
        """Wait until so many rounds of a running job are over, counting only those of so many clients (0: of any)."""
        wait_for(lambda: sum(clients in (0, r["clients"]) for r in self.records(ident, "round")) >= number, seconds)

    def end_of(self, ident: str) -> JobState:
        """Wait for it."""
        while not (state := self.session.state(ident)).finished:
            self.deployment.check()
            time.sleep(0.5)
        return state

    def result(self, ident: str) -> Path:
        """Of a job, when it is over."""
        self.end_of(ident)
        place = self.folder / "results" / ident
        place.mkdir(parents=True)
        return self.session.download(ident, place)

    def records(self, ident: str, event: str) -> list[dict[str, Any]]:
        """Those of a running job, from its server's folder."""
        files = list(self.kits.server.glob(f"{ident}/fedumm/metrics.jsonl"))
        lines = [line for file in files for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [record for record in map(json.loads, lines) if record["event"] == event]


@contextmanager
def federation(
    folder: Path, policies: Mapping[str, Mapping[str, Any]], prepare: Callable[[Path], object] = lambda kit: None
) -> Iterator[Federation]:
    """Up within the block, with sites of these policies; afterwards none of its processes is there.

    Args:
        prepare: is given each site's kit before anything starts.
    """
    place = folder / "kits"
    place.mkdir()
    (folder / "logs").mkdir()
    kits = provision(place, policies)
    for kit in kits.sites.values():
        prepare(kit)
    with Deployment(kits.all, folder / "logs") as deployment, connected(kits, deployment, len(policies)) as session:
        yield Federation(folder, kits, deployment, session)
    assert not processes_in(place)


def connected(kits: Kits, deployment: Deployment, sites: int) -> JobSession:
    """A session, once all sites are there."""

    def login() -> JobSession | None:
        deployment.check()
        try:
            return JobSession(kits.admin, seconds=5)
        except Exception:
            return None

    session: JobSession = wait_for(login, 200)
    wait_for(lambda: len(session.connected()) == sites, 200)
    return session


def job_process(kit: Path) -> psutil.Process | None:
    """That in which FLARE runs a job, of a server's or a site's kit."""
    runs = ("runner_process", "worker_process")
    found = [one for one in processes_in(kit) if any(part.endswith(runs) for part in one.cmdline())]
    return found[0] if found else None


def training_process(kit: Path) -> psutil.Process | None:
    """That in which a site trains."""
    found = [one for one in processes_in(kit) if any(part.endswith("site_host") for part in one.cmdline())]
    return found[0] if found else None


def processes_in(folder: Path) -> list[psutil.Process]:
    """What works in ``folder`` or names it."""
    found = []
    for process in psutil.process_iter():
        try:
            place = f"{process.cwd()}/"
            if place.startswith(f"{folder}/") or any(str(folder) in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found
