"""What is in a cache's folder: to list it, to verify it, and to remove it."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedumm.backends.protocol import Progress
from fedumm.features.on_disk import FOLDER
from fedumm.features.rights import NotOursError, Rights
from fedumm.features.store import DamagedError, ShardStore, in_use

_STAGE = re.compile(r"[0-9a-f]{32}")
_OURS = (".safetensors", ".lock", ".tmp", ".use", ".json")


@dataclass(frozen=True)
class Holding:
    """The features of one stage.

    Attributes:
        folder: that of its files.
        stage: what they are; empty where nothing tells.
        model: what the user who made them called it.
        settings: of the stage, as JSON.
        dtype: in which they are kept.
        images: how many; 0 also of files that are not understood.
        bytes: of all files.
        used: when a run used them last, in seconds since 1970.
        in_use: a running process uses them.
        readable: they are of a layout that this version reads.
    """

    folder: Path
    stage: str
    model: str
    settings: str
    dtype: str
    images: int
    bytes: int
    used: float
    in_use: bool
    readable: bool


@dataclass(frozen=True)
class Damage:
    """A file that does not hold what was written."""

    path: Path
    images: int
    reason: str


def holdings(top: Path, rights: Rights) -> tuple[list[Holding], list[str]]:
    """Those in the cache folder ``top``, the largest first; and why others are left alone. No features change.

    Raises:
        NotOursError: others can write to ``top``, or it is another user's.
    """
    rights.check(top, top / FOLDER)
    found, left = [], []
    for folder in sorted((top / FOLDER).glob("*")):
        if not _STAGE.fullmatch(folder.name):
            left.append(f"{folder} is not the cache's")
            continue
        try:
            found.append(_holding(ShardStore(folder, top, rights)))
        except OSError as error:
            left.append(str(error) if isinstance(error, NotOursError) else f"{folder}: {error}")
    return sorted(found, key=lambda holding: (-holding.bytes, holding.folder)), left


def _holding(store: ShardStore) -> Holding:
    store.rights.check(store.top, store.folder)
    facts = store.description()
    texts = {name: _text(facts.get(name)) for name in ("stage", "model", "settings", "dtype")}
    return Holding(
        folder=store.folder,
        **texts,
        images=len({key for path in store.files() for key in _keys(store, path)}),
        bytes=sum(path.lstat().st_size for path in store.folder.glob("*.safetensors")),
        used=store.used(),
        in_use=in_use(store.folder, store.rights),
        readable="one_by_one" in facts,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _keys(store: ShardStore, path: Path) -> list[str]:
    try:
        return store.keys(path)
    except (DamagedError, OSError):
        return []


def verify(top: Path, rights: Rights, chosen: Sequence[Holding], progress: Progress) -> list[Damage]:
    """Read all that is in ``chosen``, and compare it with its checksums. Nothing is changed: a run makes again what
    it needs."""
    damaged = []
    stores = [(ShardStore(holding.folder, top, rights), holding) for holding in chosen if holding.readable]
    work = [(store, path) for store, _ in stores for path in store.files()]
    for count, (store, path) in enumerate(work, start=1):
        try:
            file = store.open(path)
            for position in range(len(file.sums)):
                file.check(position)
        except FileNotFoundError:
            pass  # a run or a person took it away meanwhile
        except (DamagedError, OSError) as error:
            damaged.append(Damage(path, len(_keys(store, path)), str(error).removeprefix(f"{path}: ")))
        progress("reading stored features", count, len(work))
    return damaged


def to_prune(
    found: Iterable[Holding], older_than: float | None, most_bytes: float | None, now: float | None = None
) -> list[Holding]:
    """Which of them go: those not used for so long, then the largest until the rest takes no more than that.

    What a running process uses stays, and counts.

    Args:
        older_than: days; None: none goes for its age.
        most_bytes: None: none goes for its size.
    """
    everything = list(found)
    now = time.time() if now is None else now
    free = [holding for holding in everything if not holding.in_use]
    gone = [h for h in free if older_than is not None and now - h.used > older_than * 86400]
    left = sum(holding.bytes for holding in everything) - sum(holding.bytes for holding in gone)
    for holding in sorted(free, key=lambda holding: -holding.bytes):
        if most_bytes is None or left <= most_bytes:
            break
        if holding not in gone:
            gone.append(holding)
            left -= holding.bytes
    return gone


def remove(top: Path, rights: Rights, holding: Holding) -> str:
    """Remove the files of one stage, and its folder; why it is still there, or nothing.

    Only files that a cache makes, by their names in the one folder itself: no link is followed.
    """
    try:
        rights.check(top, holding.folder)
        if in_use(holding.folder, rights):
            return f"{holding.folder} is in use by now"
        folder = os.open(holding.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            for name in os.listdir(folder):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if name.endswith(_OURS) and not stat.S_ISDIR(status.st_mode):
                    os.unlink(name, dir_fd=folder)
        finally:
            os.close(folder)
        holding.folder.rmdir()
    except OSError as error:
        return f"{holding.folder}: {error.strerror or error}"
    return ""
