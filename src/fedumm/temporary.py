"""Where temporary files go: in folders that take sockets, whose full names are limited to about a hundred bytes."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import socket
import tempfile
from collections.abc import Iterator

from fedumm.errors import FedummError
from fedumm.stopping import undisturbed

_ELSEWHERE = ("/tmp", "/var/tmp", "/dev/shm")
_LONGEST = len("pymp-12345678/listener-12345678")
"""What Python's multiprocessing, which data loaders use, makes in a temporary folder."""


def base_for_sockets() -> str:
    """The user's temporary folder (``TMPDIR``), or one of the system's if that has too long a name for sockets.

    Raises:
        FedummError: none of them will do.
    """
    for base in _candidates():
        if survives_splitting(base) and _takes_sockets(base):
            return base
    raise FedummError(
        f"No folder for temporary files will do: {', '.join(_candidates())}. They can't be written to, or their names "
        "are too long for sockets, or hold spaces. Set TMPDIR to a folder with a short name."
    )


def leave_room_for_sockets() -> None:
    """Let temporary files of this process, and of its workers, go where sockets can be made.

    Where that is so already, nothing changes. For good: multiprocessing keeps the folder that it found first.
    """
    if not _takes_sockets(next(_candidates())):
        os.environ["TMPDIR"] = tempfile.tempdir = base_for_sockets()


@contextlib.contextmanager
def folder_for_sockets() -> Iterator[str]:
    """A new folder in :func:`base_for_sockets`, for this user only; gone afterwards, whenever a signal comes."""
    with _new_folder(base_for_sockets()) as path:
        yield path


@contextlib.contextmanager
def _new_folder(base: str) -> Iterator[str]:
    """Named before it is made: there is no moment at which it is there and nobody would remove it."""
    path = os.path.join(base, f"fedumm-{secrets.token_hex(4)}")
    try:
        os.mkdir(path, 0o700)
        yield path
    finally:
        with undisturbed():
            shutil.rmtree(path, ignore_errors=True)


def survives_splitting(path: str) -> bool:
    """Whether NVIDIA FLARE's simulator leaves ``path`` whole, when it splits its commands as a shell does."""
    try:
        return shlex.split(path, comments=True) == [path]
    except ValueError:  # an open quote
        return False


def _candidates() -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield tempfile.gettempdir()
    yield from _ELSEWHERE


def _takes_sockets(base: str) -> bool:
    try:
        with _new_folder(base) as folder, socket.socket(socket.AF_UNIX) as probe:
            probe.bind(os.path.join(folder, "s" * _LONGEST))
    except OSError:
        return False
    return True
