"""Files and folders that an option names: whether they can be written, asked before any work; and whole writes."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fedumm.errors import FedummError


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


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft to write to, which takes the place of ``path`` at the end, or of nothing if writing failed."""
    draft = path.with_name(f".draft-{path.name}")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
