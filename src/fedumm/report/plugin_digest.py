"""Which plugins a run began with. A run keeps their digests, never their code, nor where to find it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedumm.errors import FedummError
from fedumm.plugins import digest_of
from fedumm.texts import one_line

DIGESTS = "plugins.sha256"
"""A line for each file, as ``sha256sum`` writes it: digest, two spaces, name."""

_HEX = 64
_LONGEST = 100_000


def keep_digests(folder: Path, plugins: Sequence[str]) -> None:
    """Write those of the files ``plugins`` into the run folder; for a run without one, remove those of a run before.

    Raises:
        FedummError: a file can't be read.
    """
    (folder / DIGESTS).unlink(missing_ok=True)
    if plugins:
        lines = [f"{digest_of(file)}  {one_line(Path(file).name, 200)}\n" for file in plugins]
        (folder / DIGESTS).write_text("".join(lines), encoding="utf-8")


def check_digests(folder: Path, plugins: Sequence[str]) -> None:
    """Raise :class:`FedummError` unless the files ``plugins`` are those that the run in ``folder`` began with."""
    kept = _kept(folder)
    names = ", ".join(repr(name) for _, name in kept)
    if kept and not plugins:
        raise FedummError(
            f"The run in {folder} began with {names}. Such a file is run only if you name it: add --plugin FILE."
        )
    if plugins and not kept:
        raise FedummError(f"The run in {folder} began without a --plugin, and can't be resumed with one.")
    if len(plugins) != len(kept):
        raise FedummError(
            f"The run in {folder} began with {len(kept)} plugin(s), {names}: name them all, in that order."
        )
    for file, (digest, name) in zip(plugins, kept, strict=True):
        if digest_of(file) != digest:
            raise FedummError(
                f"--plugin {file} is not the file {name!r} that the run in {folder} began with: its SHA-256 is not "
                f"{digest}. Name that file, or start a run with another --name."
            )


def _kept(folder: Path) -> list[tuple[str, str]]:
    """Digest and name of each file; empty if the run began without one."""
    path = folder / DIGESTS
    try:
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8")[:_LONGEST].splitlines()
    except (OSError, ValueError) as error:
        raise FedummError(f"{path} can't be read: {one_line(error)}.") from error
    parts = [line.partition("  ") for line in lines]
    if not parts or any(len(digest) != _HEX or not set(digest) <= set("0123456789abcdef") for digest, _, _ in parts):
        raise FedummError(f"{path} holds no SHA-256: this run can't be resumed.")
    return [(digest, one_line(name, 200)) for digest, _, name in parts]
