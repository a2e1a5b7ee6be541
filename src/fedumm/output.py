"""Files and folders that an option names: whether they can be written, asked before any work; and whole writes."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Container
from pathlib import Path
from typing import NoReturn

from fedumm.errors import FedummError
from fedumm.texts import one_line


def check_folder(option: str, folder: str | Path) -> None:
    """Raise :class:`FedummError` unless files can be made in ``folder``, which need not be there yet.

    It is tried, since nothing else tells (permissions do not bind everybody, disks are full); no trace is left.

    Args:
        option: the flag that named it, for the message: ``output_dir``.
    """
    path, made = Path(folder), list[Path]()
    try:
        for missing in reversed([p for p in (path, *path.parents) if not p.exists()]):
            missing.mkdir()
            made.append(missing)
        with tempfile.NamedTemporaryFile(prefix=".fedumm-", dir=path) as probe:
            probe.write(b"\0")
    except (OSError, ValueError) as error:
        raise FedummError(f"--{option} {path} can't be written to: {_reason(error)}.") from error
    finally:
        for folder_made in reversed(made):
            with contextlib.suppress(OSError):
                folder_made.rmdir()


def check_cache(option: str, folder: str | Path) -> None:
    """As :func:`check_folder`; but a folder that holds something may be there to be read only."""
    path = Path(os.path.expanduser(folder))
    with contextlib.suppress(OSError, ValueError):
        if path.is_dir() and any(path.iterdir()):
            return
    check_folder(option, path)


def check_file(option: str, file: str | Path) -> None:
    """Raise :class:`FedummError` unless ``file`` can be made, or replaced by a new one, in a folder that is there."""
    path = Path(file)
    with contextlib.suppress(OSError, ValueError):
        if not path.parent.is_dir():
            raise FedummError(f"--{option} {path}: no such folder.")
        if path.exists() and not path.is_file():
            raise FedummError(f"--{option} {path} is no file that could be replaced. Choose another name.")
    try:
        with tempfile.NamedTemporaryFile(prefix=f".{path.name}-", dir=path.parent) as probe:
            probe.write(b"\0")
    except (OSError, ValueError) as error:
        raise FedummError(f"--{option} {path} can't be written: {_reason(error)}.") from error


def check_plain(folder: str | Path, appended: Container[str] = ()) -> None:
    """Raise :class:`FedummError` unless all below ``folder`` are folders and plain files of their own.

    For a folder whose run is resumed, and that may come from somebody else: what is written to a link lands elsewhere,
    and reading from a pipe may wait for ever.

    Args:
        appended: names in ``folder`` of files that are written to as they are, and so must have no other name either.
            Others are replaced as a whole.
    """
    for top, folders, files in os.walk(folder, onerror=_unreadable):
        for name in (*folders, *files):
            path = os.path.join(top, name)
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                kind = "a link"
            elif not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
                kind = "neither a file nor a folder"
            elif status.st_nlink > 1 and stat.S_ISREG(status.st_mode) and top == str(folder) and name in appended:
                kind = "a file with a second name"
            else:
                continue
            raise FedummError(
                f"{one_line(path)} is {kind}: what is written there could land outside {folder}. Put a copy in its "
                "place."
            )


def _unreadable(error: OSError) -> NoReturn:
    raise FedummError(f"{error.filename} can't be read: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
