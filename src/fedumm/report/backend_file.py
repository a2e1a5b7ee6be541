"""Which backend file a run began with. A run keeps its digest, never its code, nor where to find it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fedumm.errors import FedummError
from fedumm.texts import one_line

DIGEST = "backend_file.sha256"
"""As ``sha256sum`` writes it: digest, two spaces, name."""

_HEX = 64


def keep_digest(folder: Path, backend_file: str) -> None:
    """Write that of ``backend_file`` into the run folder; nothing for a run without one.

    Raises:
        FedummError: it can't be read.
    """
    if backend_file:
        line = f"{_digest(backend_file)}  {one_line(Path(backend_file).name, 200)}\n"
        (folder / DIGEST).write_text(line, encoding="utf-8")


def check_digest(folder: Path, backend_file: str) -> None:
    """Raise :class:`FedummError` unless ``backend_file``, empty for none, is what the run in ``folder`` began with."""
    kept, name = _kept(folder)
    if kept and not backend_file:
        raise FedummError(
            f"The run in {folder} began with the backend of a file {name!r}. Such a file is run only if you name it: "
            "add --backend_file FILE."
        )
    if backend_file and not kept:
        raise FedummError(f"The run in {folder} began without a --backend_file, and can't go on with one.")
    if backend_file and _digest(backend_file) != kept:
        raise FedummError(
            f"--backend_file {backend_file} is not the file that the run in {folder} began with: its SHA-256 is not "
            f"{kept}. Name that file, or start a run with another --name."
        )


def _kept(folder: Path) -> tuple[str, str]:
    """Digest and name; empty if the run began without a file."""
    path = folder / DIGEST
    try:
        if not path.exists():
            return "", ""
        digest, _, name = path.read_text(encoding="utf-8")[:1000].strip().partition("  ")
    except (OSError, ValueError) as error:
        raise FedummError(f"{path} can't be read: {one_line(error)}.") from error
    if len(digest) != _HEX or not set(digest) <= set("0123456789abcdef"):
        raise FedummError(f"{path} holds no SHA-256: this run can't go on.")
    return digest, one_line(name, 200)


def _digest(backend_file: str) -> str:
    try:
        return hashlib.sha256(Path(backend_file).read_bytes()).hexdigest()
    except OSError as error:
        raise FedummError(f"--backend_file {backend_file} can't be read: {error}.") from error
