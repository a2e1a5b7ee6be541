"""Which image files were read before, and what is in them: a start reads only what is new or has changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from fedumm.data.places import is_address
from fedumm.features.rights import Rights

FILE = "images.json"
_MOST = 2_000_000
_SETTLED = 2.0
"""Seconds since the last change of a file, from which on a further one is sure to change its time stamp as well."""

Facts = tuple[int, int, int]
"""Size in bytes, and the times of the last change of content and of status, in nanoseconds."""


class KnownFiles(MutableMapping[str, str]):
    """SHA-256 of image files, by their paths; of those in the index only as long as they have not changed since.

    A file that has the size and both time stamps with which it was read is taken to have the content as well. The
    index lies in the cache's folder, under the same rights as features, and holds digests of paths, not paths.

    Args:
        folder: the cache's.
        rights: who may have written there.
    """

    def __init__(self, folder: Path, rights: Rights) -> None:
        self._path, self._rights = folder / FILE, rights
        self._index = self._stored()
        self._new: dict[str, list[int | str]] = {}
        self._now: dict[str, str] = {}
        self._before: dict[str, Facts | None] = {}

    def __contains__(self, path: object) -> bool:
        if path in self._now:
            return True
        if not isinstance(path, str) or is_address(path):
            return False
        facts = self._before[path] = _facts(path)
        entry = self._index.get(_name(path))
        if facts is None or entry is None or tuple(entry[:3]) != facts:
            return False
        self._now[path] = str(entry[3])
        return True

    def __getitem__(self, path: str) -> str:
        return self._now[path]

    def __setitem__(self, path: str, digest: str) -> None:
        """Note what was read since the path was looked up."""
        self._now[path] = digest
        facts = self._before.get(path)
        if facts is None or facts != _facts(path) or len(digest) != 64:
            return
        if time.time() - max(facts[1:]) / 1e9 > _SETTLED:
            self._new[_name(path)] = [*facts, digest]

    def __delitem__(self, path: str) -> None:
        del self._now[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now)

    def __len__(self) -> int:
        return len(self._now)

    def save(self) -> None:
        """Add what was read to the index. Without one, a start takes longer and nothing else."""
        if not self._new or not self._path.parent.is_dir():
            return
        # With what other processes have written since.
        entries = dict(list((self._stored() | self._new).items())[-_MOST:])
        draft = self._path.with_name(f"{uuid.uuid4().hex}.tmp")
        with contextlib.suppress(OSError):
            mode = self._rights.new_file(draft)
            try:
                draft.write_text(json.dumps(entries))
                draft.chmod(mode)
                os.replace(draft, self._path)
            finally:
                draft.unlink(missing_ok=True)
        self._index, self._new = entries, {}

    def _stored(self) -> dict[str, list[int | str]]:
        try:
            self._rights.check(self._path.parent, self._path.parent)
            if not self._rights.fits(self._path):
                return {}
            entries = json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return {name: entry for name, entry in entries.items() if _sound(entry)} if isinstance(entries, dict) else {}


def _sound(entry: object) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 4
        and all(isinstance(value, int) for value in entry[:3])
        and isinstance(entry[3], str)
        and len(entry[3]) == 64
    )


def _facts(path: str) -> Facts | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _name(path: str) -> str:
    return hashlib.sha256(os.path.abspath(path).encode(errors="surrogateescape")).hexdigest()[:32]
