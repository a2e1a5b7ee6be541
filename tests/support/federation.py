"""A federation on kits of its own that is up while a test looks at it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from fedumm.federation.runners.flare.deployment import Deployment
from fedumm.federation.runners.flare.jobs import JobSession, JobState
from fedumm.federation.runners.flare.kits import Kits, provision
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
