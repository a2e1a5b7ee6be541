"""An administrator's session with a server: jobs submitted, asked, ended and fetched, over FLARE's connection."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from fedumm.errors import FedummError
from fedumm.federation.assignment import natural
from fedumm.federation.runners.flare.telling import RECORDS, SINCE, TOPIC, WAITING
from fedumm.run_events import Record
from fedumm.shell import quoted
from fedumm.texts import one_line

RUNNING, COMPLETED = "RUNNING", "FINISHED:COMPLETED"
_SECONDS = 15.0
_JOB = re.compile(r"[A-Za-z0-9-]{1,64}")
_DEEPEST = 20
"""Levels of a record; ours have four."""


class ConnectionLostError(FedummError):
    """The server does not answer any more; what runs there may go on."""


@dataclass(frozen=True)
class JobState:
    """What the server says of a job.

    Attributes:
        name: as it was submitted.
        status: FLARE's: ``SUBMITTED``, ``RUNNING``, ``FINISHED:COMPLETED`` and so on.
        reasons: of sites that do not take part, and of a job that could not be run.
    """

    name: str
    status: str
    reasons: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether it is over, well or not."""
        return self.status.startswith("FINISHED")


def admin_kit(kit: Path) -> tuple[Path, str]:
    """An administrator's startup kit, and who that is.

    Raises:
        FedummError: ``kit`` is none.
    """
    folder = kit.parent if kit.name == "startup" else kit
    file = folder / "startup" / "fed_admin.json"
    if not file.is_file():
        other = any((folder / "startup" / name).is_file() for name in ("fed_client.json", "fed_server.json"))
        what = "the startup kit of a server or a site" if other else "no startup kit"
        raise FedummError(
            f"--startup_kit {one_line(kit)}: that is {what}. Name the folder of an administrator, as NVIDIA FLARE's "
            "provisioning made it, with startup/fed_admin.json in it."
        )
    try:
        return folder.resolve(), str(json.loads(file.read_text(encoding="utf-8"))["admin"]["username"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FedummError(f"--startup_kit {one_line(kit)}: {file} can't be read ({type(error).__name__}).") from error


class JobSession:
    """Connected until it is closed; used in a ``with`` block.

    Attributes:
        waiting: whom the job waited for when its records were last asked for.

    Args:
        kit: an administrator's startup kit.
        seconds: to wait for the server.

    Raises:
        FedummError: ``kit`` is none.
        ConnectionLostError: no server answers, or it does not know this administrator.
    """

    def __init__(self, kit: Path, seconds: float = _SECONDS) -> None:
        self.kit, self._name = admin_kit(kit)
        self._session: Any = None
        self.waiting = ""
        self.connect(seconds)

    def connect(self, seconds: float = _SECONDS) -> None:
        """Log in, also once more when the connection was lost.

        Raises:
            ConnectionLostError: no server answers, or it does not know this administrator.
        """
        from nvflare.fuel.flare_api.flare_api import new_secure_session

        self.close()
        # What FLARE's connection has to say of itself is told as an error, where it is one.
        logging.getLogger().addHandler(logging.NullHandler())
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                self._session = new_secure_session(self._name, str(self.kit), timeout=seconds, auto_login_max_tries=1)
        except Exception as error:
            raise ConnectionLostError(
                f"No server can be reached with the startup kit {self.kit} ({_said(error)}). Is it up, and is its "
                "address, in startup/fed_admin.json, right and open from here?"
            ) from error

    def __enter__(self) -> JobSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Log out."""
        if self._session is None:
            return
        with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
            self._session.close()

    def connected(self) -> list[str]:
        """The sites that are connected now."""
        with self._asked("which sites are connected"):
            return sorted((one_line(site.name, 100) for site in self._session.get_connected_client_list()), key=natural)

    def submit(self, job: Path) -> str:
        """Hand in a job; returns its number."""
        with self._asked(f"to take the job {job.name}"):
            return self._number(self._session.submit_job(str(job)))

    @staticmethod
    def _number(job: object) -> str:
        if not _JOB.fullmatch(str(job)):
            raise FedummError(f"The server gave the job a number that is none: {one_line(job, 100)}.")
        return str(job)

    def state(self, job: str) -> JobState:
        """How far it is.

        Raises:
            FedummError: there is no such job.
        """
        from nvflare.fuel.flare_api.api_spec import JobNotFound

        if not _JOB.fullmatch(job):
            raise FedummError(f"{one_line(job, 100)!r} is no number of a job: 'nvflare job list' shows them.")
        try:
            with self._asked(f"about the job {job}"):
                meta = self._session.get_job_meta(job)
        except FedummError as error:
            if isinstance(error.__cause__, JobNotFound):
                raise FedummError(
                    f"The server has no job {job}. 'nvflare job list --startup-kit {quoted(self.kit)}' shows those "
                    "that it has."
                ) from error
            raise
        return _state(meta)

    def records(self, job: str, since: int) -> list[Record] | None:
        """The records after the first ``since``; None while the job has nothing to say: before it begins, at its end.

        Raises:
            ConnectionLostError: the server does not answer.
            FedummError: what it sent is no answer of fedumm.
        """
        from nvflare.fuel.flare_api.api_spec import InternalError, JobNotFound, JobNotRunning, NoReply

        try:
            with self._asked(f"about the job {job}"):
                answer = self._session.do_app_command(job, TOPIC, {SINCE: since})
        except FedummError as error:
            if isinstance(error.__cause__, InternalError | JobNotFound | JobNotRunning | NoReply):
                return None
            raise
        told = answer.get(RECORDS) if isinstance(answer, Mapping) else None
        if not isinstance(told, list):
            raise FedummError(f"The server's answer about the job {job} is none of fedumm's.")
        self.waiting = one_line(answer.get(WAITING, ""), 500)
        return [plain_record(record) for record in told]

    def abort(self, job: str) -> None:
        """End it at once."""
        with self._asked(f"to end the job {job}"):
            self._session.abort_job(job)

    def download(self, job: str, folder: Path) -> Path:
        """Fetch what a finished job left, into a new folder in ``folder``; returns that of its run.

        It is somebody else's: nothing of it has been looked at.

        Raises:
            FedummError: there is no folder of a run in it.
        """
        with tempfile.TemporaryDirectory(dir=folder) as place:
            with self._asked(f"for the result of the job {job}"), contextlib.redirect_stdout(io.StringIO()):
                found = Path(self._session.download_job_result(job, place))
            run = found / "workspace" / "fedumm"
            if found.is_symlink() or not run.is_dir():
                raise FedummError(f"The job {job} left no run: its server's log says why (nvflare job logs {job}).")
            return run.rename(folder / "run")

    @contextlib.contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        from nvflare.fuel.flare_api.api_spec import AuthenticationError, NoConnection, SessionClosed

        try:
            yield
        # A server that was started again knows no session.
        except (AuthenticationError, NoConnection, SessionClosed) as error:
            raise ConnectionLostError(f"The server does not answer when asked {what}: {_said(error)}.") from error
        except FedummError:
            raise
        except Exception as error:
            raise FedummError(f"The server was asked {what}, and answered: {_said(error)}.") from error


def plain_record(record: Any) -> Record:
    """A record of somebody else's, with nothing in its texts that acts on a screen.

    Raises:
        FedummError: it is no record.
    """
    plain = _plain(record, _DEEPEST)
    if isinstance(plain, dict) and isinstance(plain.get("event"), str):
        return plain
    raise FedummError("The server sent something else than the records of a run. Does it run this version of fedumm?")


def _plain(value: Any, deepest: int) -> Any:
    if isinstance(value, str):
        return one_line(value, 5000)
    if deepest and isinstance(value, Mapping):
        return {one_line(key): _plain(item, deepest - 1) for key, item in value.items()}
    if deepest and isinstance(value, list):
        return [_plain(item, deepest - 1) for item in value]
    return value if isinstance(value, int | float | None) else None


def _state(meta: Mapping[str, Any]) -> JobState:
    details = meta.get("job_deploy_detail")
    told = [one_line(text) for text in details if isinstance(text, str)] if isinstance(details, list) else []
    history = meta.get("schedule_history")
    tried = [one_line(text) for text in history[-1:] if isinstance(text, str)] if isinstance(history, list) else []
    status = one_line(meta.get("status"), 100)
    reasons = [text for text in told if not text.endswith(": OK")]
    waits = tried if not status.startswith(("RUNNING", "FINISHED")) else []
    return JobState(one_line(meta.get("name", ""), 200), status, (*reasons, *waits))


def _said(error: Exception) -> str:
    return one_line(error, 300).rstrip(".") or type(error).__name__
