"""A site's own log of all that left it: one line of JSON for each answer, on the disk before the answer goes.

Each line holds the digest of the line before it: one that was changed, or taken out between two others, is found. An
answer's tensors are told by their number, bytes and digest; everything else of it stands in the line as it was sent.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fedumm.compression.header import tensors_in
from fedumm.errors import FedummError
from fedumm.federation.protocol.messages import InitReply, Message, RoundTask
from fedumm.federation.protocol.wire import to_wire
from fedumm.texts import one_line

FILE = "fedumm/left.jsonl"
"""Its place in a site's folder: one file for all jobs."""

FULL = f"This site's log of what leaves it ({FILE}) can't be written, so it gives no answer."
"""All that leaves a site then: the same words, whatever the answer was."""

FIRST = "0" * 64
"""Stands for the digest of the line before the first one."""

BROKEN = "does not follow the line before it: there a line was changed, added or taken out"

_BLOCK = 1 << 16


class OutgoingLog:
    """Adds lines for one job.

    Args:
        path: of the file, which several jobs of a site may share.
        job: FLARE's number of it.
        submitter: who handed it in, as FLARE says.
    """

    def __init__(self, path: Path, job: str, submitter: str) -> None:
        self._path, self._job, self._submitter = path, job, submitter
        self._known = 0

    def add(self, message: Message | None, answer: Message) -> None:
        """One line for ``answer``, which is on the disk when this returns.

        Args:
            message: what is answered; None if that could not be read.

        Raises:
            OSError: it is not, and the answer must not go.
        """
        if isinstance(answer, InitReply):
            self._known = len(answer.spec)
        content = to_wire(answer)
        kind = content.pop("kind")
        payloads: list[bytes] = []
        told = _told(content, self._known, payloads)
        line = {
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "job": self._job,
            "submitter": self._submitter,
            "round": message.round if isinstance(message, RoundTask) else None,
            "kind": kind,
            "bytes": sum(map(len, payloads)),
            "digest": hashlib.sha256(b"".join(payloads)).hexdigest() if payloads else "",
            "content": told,
        }
        _append(self._path, line)


def _told(value: Any, known: int, payloads: list[bytes]) -> Any:
    """``value`` as JSON has it; what is bytes goes into ``payloads`` and is told by number, size and digest."""
    if isinstance(value, bytes):
        if not value:
            return None
        payloads.append(value)
        return {"tensors": _tensors(value, known), "bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, dict):
        return {str(name): _told(own, known, payloads) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [_told(own, known, payloads) for own in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _tensors(payload: bytes, known: int) -> int | None:
    try:
        return tensors_in(payload, known)
    except ValueError:
        return None


def _append(path: Path, content: dict[str, Any]) -> None:
    new = not path.exists()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Never cut, so that the file may be one that the system lets nobody but add to (chattr +a).
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        # Jobs are processes of their own. The lock ends with the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        before, torn = _tail(descriptor)
        line = json.dumps({**content, "before": digest(before) if before else FIRST}, allow_nan=False)
        rest = b"\n" * torn + line.encode() + b"\n"
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        _sync_folder(path.parent)


def _tail(descriptor: int) -> tuple[bytes, bool]:
    """The last whole line and what follows it, without the end; and whether that has none: its writer was stopped,
    and its answer did not go."""
    start = os.lseek(descriptor, 0, os.SEEK_END)
    found = b""
    while start:
        size = min(_BLOCK, start)
        start -= size
        found = os.pread(descriptor, size, start) + found
        lines = found.removesuffix(b"\n").split(b"\n")
        # Of the first one the beginning may be missing.
        whole = [place for place in range(bool(start), len(lines)) if _parsed(lines[place]) is not None]
        if whole:
            return b"\n".join(lines[whole[-1] :]), not found.endswith(b"\n")
    return found.removesuffix(b"\n"), bool(found) and not found.endswith(b"\n")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(line: bytes) -> str:
    """What the line after ``line`` says of it."""
    return hashlib.sha256(line).hexdigest()


@dataclass(frozen=True)
class Entry:
    """A line that was read.

    Attributes:
        number: from 1.
        content: what it says; None of a part of a line, whose writer was stopped: its answer did not go.
        problem: what is wrong with the lines before it; empty if nothing is.
        digest: of the line and of parts of lines that follow it: what the next one says.
    """

    number: int
    content: dict[str, Any] | None
    problem: str
    digest: str


def read(path: Path) -> Iterator[Entry]:
    """The lines of a site's log, held against each other.

    Raises:
        FedummError: there is none, or it can't be read.
    """
    before = b""
    try:
        with open(path, "rb") as file:
            for number, raw in enumerate(file, start=1):
                line = raw.removesuffix(b"\n")
                content = _parsed(line)
                if content is None:
                    before = before + b"\n" + line if before else line
                    yield Entry(number, None, "", digest(before))
                    continue
                fits = content.get("before") == (digest(before) if before else FIRST)
                before = line
                yield Entry(number, content, "" if fits else BROKEN, digest(line))
    except FileNotFoundError:
        raise FedummError(f"{one_line(path)}: nothing has left this site yet, or this is no site's folder.") from None
    except OSError as error:
        raise FedummError(f"{one_line(path)} can't be read: {error.strerror}.") from error


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
