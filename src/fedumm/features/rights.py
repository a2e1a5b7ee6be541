"""Whose files a cache takes. Features go into training unseen: who can write them chooses what a model sees.

A cache is its owner's: folders and files of this user or of root, which nobody else can write to. A folder that the
user names and that its group can write to, but not everybody, is shared: there the whole group is trusted, and what is
made in it has the folder's own rights. Everything else is made by the umask, and never for others to write to.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

_GROUP, _ALL = stat.S_IWGRP, stat.S_IWOTH
_SHARED_BITS = stat.S_IRWXU | stat.S_IRWXG | stat.S_IROTH | stat.S_IXOTH | stat.S_ISGID


class NotOursError(OSError):
    """A folder that this user can't rely on."""


@dataclass(frozen=True)
class Rights:
    """What holds in one cache folder.

    Attributes:
        shared: rights of a folder that a group shares, as in ``chmod``; 0: the cache is one user's.
    """

    shared: int = 0

    @classmethod
    def of(cls, folder: Path, named: bool) -> Rights:
        """Those of ``folder``, if it is there.

        Args:
            named: the user chose the folder, and so who can write to it.
        """
        mode = folder.stat().st_mode if folder.exists() else 0
        return cls(mode & _SHARED_BITS if named and mode & _GROUP and not mode & _ALL else 0)

    def check(self, top: Path, folder: Path) -> None:
        """Look at the cache folder ``top`` and at what leads from there to ``folder``, as far as they exist.

        Raises:
            NotOursError: another user made one of them, or can change what is in it.
        """
        for path in _chain(top, folder):
            # What leads to the cache is the user's own choice, a link as well.
            status = path.stat() if path == top and path.exists() else path.lstat() if os.path.lexists(path) else None
            if status is not None and (reason := self._reason(status, sticky=path == top)):
                raise NotOursError(
                    f"{path} {reason}. Features are taken from folders of your own, or from one that you name and "
                    "that its group, and nobody else, can write to (chmod g+w,o-w)"
                )

    def _reason(self, status: os.stat_result, sticky: bool) -> str:
        if not stat.S_ISDIR(status.st_mode):
            return "is no folder"
        if sticky and status.st_mode & stat.S_ISVTX:
            return ""  # as in /tmp: others can't touch what is made here
        return "" if self._ours(status) else _who(status)

    def fits(self, path: Path) -> bool:
        """Whether ``path`` is a plain file that nobody but those who are trusted can have written."""
        status = path.lstat()
        return stat.S_ISREG(status.st_mode) and self._ours(status)

    def _ours(self, status: os.stat_result) -> bool:
        if not hasattr(os, "geteuid"):  # Windows: no such owners, no such modes
            return True
        if self.shared:
            return not status.st_mode & _ALL
        return status.st_uid in (os.geteuid(), 0) and not status.st_mode & (_GROUP | _ALL)

    def make(self, top: Path, folder: Path) -> None:
        """Make ``folder`` below ``top``, and what leads to it."""
        for path in _chain(top, folder):
            if not path.exists():
                # Another process may be at it.
                with contextlib.suppress(FileExistsError):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.mkdir(mode=0o755)
                    if self.shared:
                        path.chmod(self.shared)

    @property
    def file_mode(self) -> int:
        """Rights of a new file, from which the umask of one user's cache still takes away."""
        return self.shared & 0o666 or 0o644

    def new_file(self, path: Path) -> int:
        """Make an empty file; its rights, for whatever takes its place."""
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, self.file_mode)
        try:
            if self.shared:
                os.chmod(path, self.file_mode)
            return stat.S_IMODE(os.fstat(descriptor).st_mode)
        finally:
            os.close(descriptor)


def _chain(top: Path, folder: Path) -> list[Path]:
    """``top``, and each folder from there down to ``folder``."""
    parts = folder.relative_to(top).parts
    return [top.joinpath(*parts[:count]) for count in range(len(parts) + 1)]


def _who(status: os.stat_result) -> str:
    if status.st_uid not in (os.geteuid(), 0):
        return f"belongs to another user (number {status.st_uid})"
    return "can be written to by other users"
