"""What of a run outlives its job, so that another job resumes it: its folder at the server, what clients keep at sites.

Both lie beside FLARE's folders of jobs, in ``fedumm/RUN``; a run is called by the number of its first job.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fedumm.config import FederateConfig
from fedumm.errors import FedummError, PublicError
from fedumm.federation.runners.same_options import FREE, check_rounds, check_same
from fedumm.files import replacing, write_atomically
from fedumm.report.run_folder import CONFIG, LOCK, create, lock_run, read_config, reopened
from fedumm.run_events import AdapterEvent, Record, RunListener
from fedumm.run_options import to_mapping
from fedumm.texts import one_line

PLACE = "fedumm"
JOB = "job.json"
"""In a run folder: which run of which server it is."""

_OPTIONS = "options.sha256"
_MAY_CHANGE = {*FREE, "num_rounds", "min_clients"}
_SECONDS_TO_LEAVE = 60.0

_NUMBER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""FLARE's numbers of jobs. What else lies beside these folders has other names."""


def read_run(folder: Path) -> str:
    """The run of a folder whose job was submitted from here; empty if it is none.

    Raises:
        FedummError: its file is damaged.
    """
    if not (folder / JOB).is_file():
        return ""
    try:
        return run_of(json.loads((folder / JOB).read_text(encoding="utf-8"))["run"], "")
    except (OSError, ValueError, KeyError, TypeError, PublicError) as error:
        raise FedummError(f"{folder / JOB} is damaged: this run can't be resumed.") from error


def run_of(job: str, resumes: str) -> str:
    """The run of a job, which may go on with an earlier one.

    Raises:
        PublicError: that can't be the number of a job.
    """
    run = resumes or job
    if not _NUMBER.fullmatch(run):
        raise PublicError(f"no number of a job: {ascii(run)[:80]}")
    return run


def kept_at_site(root: Path, job: str, resumes: str, options: Mapping[str, Any]) -> tuple[Path, FileLock]:
    """The folder of what a site keeps of a run, and its lock, which is to be held as long as the job goes on.

    Args:
        root: of FLARE's workspace.
        options: of the job, which must be those that the run began with.

    Raises:
        PublicError: it began with others, or with ``--dp local``, or another job of it is going on.
    """
    folder = root / PLACE / run_of(job, resumes)
    if resumes and options.get("dp") == "local":
        raise PublicError("with --dp local no run is resumed: a round done again would be answered with other noise")
    own = {name: value for name, value in options.items() if name not in _MAY_CHANGE}
    digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()
    begun = folder / _OPTIONS
    if folder.exists() and not begun.exists() and any(folder.iterdir()):
        raise PublicError("what this site keeps of that run does not say with which options: it is not resumed")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        # FLARE's process of a job that was killed elsewhere lives on for a while.
        lock.acquire(timeout=_SECONDS_TO_LEAVE)
    except Timeout:
        raise PublicError("another job of that run is going on at this site") from None
    if not begun.exists():
        write_atomically(begun, digest)
    elif begun.read_text(encoding="ascii") != digest:
        lock.release()
        raise PublicError("at this site the run that the job resumes began with other options")
    return folder, lock


@contextmanager
def kept_at_server(root: Path, job: str, resumes: str, config: FederateConfig) -> Iterator[Path]:
    """The run folder at a server, as an earlier job left it, or made anew: also where that ended before it had one.

    It is locked within the block.

    Raises:
        FedummError: it began with other options, it is finished, its folder is damaged, another job of it is going on,
            or ``resumes`` is a job that went on with an earlier one.
    """
    # It imports torch, which a process that only builds a job has no use for.
    from fedumm.federation.runners.resumption import has_rounds, resume_point

    path, note = root / PLACE / run_of(job, resumes), root / PLACE / f"{run_of(job, '')}.run"
    known = path.with_suffix(".run")
    if resumes and known.is_file() and (first := known.read_text(encoding="ascii")) != resumes:
        raise FedummError(f"The job {resumes} went on with the run of {one_line(first, 60)}: resume that one.")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(note, path.name)
    if (path / CONFIG).is_file():
        begun = read_config(path)
        check_same(path, begun, config, _MAY_CHANGE)
        check_rounds(to_mapping(begun), config.num_rounds)
    if resumes and has_rounds(path):
        lock = lock_run(path)
        try:
            with reopened(path, config, resume_point(path, config)):
                yield path
        finally:
            lock.release()
        return
    # One that did not finish a round begins anew, in a folder that nobody else has locked.
    lock = create(path, replace(config, overwrite=bool(resumes)), "fedumm submit")
    try:
        write_atomically(path / JOB, json.dumps({"run": path.name}))
        yield path
    finally:
        lock.release()


class Mirror(RunListener):
    """Keeps in the job's own folder, which FLARE archives however the job ends, what is in the run's.

    Args:
        path: the run's folder.
        into: the job's.
    """

    def __init__(self, path: Path, into: Path) -> None:
        self._path, self._into = path, into

    def on_record(self, record: Record) -> None:
        """After a round."""
        if record["event"] in ("setup", "round", "final"):
            self.update()

    def on_adapter(self, event: AdapterEvent) -> None:
        """A new one takes the place of another file."""
        self.update()

    def update(self) -> None:
        """Take over what is new; a full disk leaves it out."""
        with suppress(OSError):
            for folder, _, names in os.walk(self._path):
                there = self._into / Path(folder).relative_to(self._path)
                there.mkdir(parents=True, exist_ok=True)
                for name in names:
                    if name != LOCK:
                        _copy(Path(folder) / name, there / name)


def _copy(source: Path, target: Path) -> None:
    with suppress(FileNotFoundError):  # it is being replaced: the next time
        now = source.stat()
        if target.exists() and (target.stat().st_size, target.stat().st_mtime_ns) == (now.st_size, now.st_mtime_ns):
            return
        with replacing(target) as draft:
            shutil.copy2(source, draft)
