"""Features on disk: files that several processes fill together, and map into memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from fedumm.backends.feature_table import Block
from fedumm.features.layout import Layout, checksum, tensors_of
from fedumm.features.numbers import finite
from fedumm.features.rights import Rights

_STALE_SECONDS = 3600.0
_DESCRIPTION = "stage.json"
_IN_USE = ".use"
_LONGEST = 1_000_000


class DamagedError(Exception):
    """A file is cut short or altered, or does not hold what it should."""


@dataclass(frozen=True)
class StoredFile:
    """A mapped file.

    Attributes:
        sums: CRC-32 of each image's part.
    """

    path: Path
    block: Block
    sums: Sequence[str]

    def check(self, position: int) -> None:
        """Read what is kept of one image.

        Raises:
            DamagedError: it is not what was written.
        """
        if checksum(self.block, position) != self.sums[position]:
            raise DamagedError(f"{self.path}: checksum")
        if not all(map(finite, self.block.parts(position))):
            raise DamagedError(f"{self.path}: not finite")


class ShardStore:
    """A folder of safetensors files, each the features of up to a few dozen images.

    A file appears whole or not at all (it is renamed into place), names its images and carries the CRC-32 of what it
    holds of each, which is checked when that is asked for first. Nothing is read through a link. Of images that differ
    in length it holds the features one after the other, their lengths, and likewise the numbers that go with them.

    Args:
        folder: of one stage.
        top: the cache's, which holds it.
        rights: who may have written there.

    Attributes:
        removed: files that did not fit, so far.
    """

    def __init__(self, folder: Path, top: Path | None = None, rights: Rights | None = None) -> None:
        self.folder, self.top, self.rights = folder, top or folder, rights or Rights()
        self.removed = 0
        self._written: list[Path] = []
        self._lease: FileLock | None = None

    def create(self, description: dict[str, object]) -> None:
        """Make the folder, with a file that tells a person what is in it."""
        self.rights.make(self.top, self.folder)
        self.rights.check(self.top, self.folder)
        self.put_facts(_DESCRIPTION, description)
        for left in self.folder.glob("*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                    left.unlink()

    def shape(self) -> tuple[int, ...] | None:
        """That of one image's features, if :meth:`create` was told (``shape``)."""
        shape = self.description().get("shape")
        try:
            return tuple(map(int, shape)) if isinstance(shape, list) else None
        except (TypeError, ValueError):
            return None

    def description(self) -> dict[str, Any]:
        """What :meth:`create` was told; nothing where that is not to be had."""
        return self.facts(_DESCRIPTION)

    def used(self) -> float:
        """When the features were used last, in seconds since 1970."""
        path = self.folder / _DESCRIPTION
        return (path if path.exists() else self.folder).lstat().st_mtime

    def facts(self, name: str) -> dict[str, Any]:
        """What a small JSON file in the folder says; nothing if it is not one of ours."""
        path = self.folder / name
        try:
            if not self.rights.fits(path) or path.stat().st_size > _LONGEST:
                return {}
            facts = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError, RecursionError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def put_facts(self, name: str, facts: dict[str, Any]) -> None:
        """Write such a file."""
        draft = self.folder / f"{uuid.uuid4().hex}.tmp"
        mode = self.rights.new_file(draft)
        draft.write_text(json.dumps(facts, indent=1))
        draft.chmod(mode)
        os.replace(draft, self.folder / name)

    def find(self) -> dict[str, tuple[Path, int]]:
        """Where each image is: file and position. Reads headers only; files that do not fit are removed.

        Raises:
            OSError: the folder is another user's, or can't be read.
        """
        self.rights.check(self.top, self.folder)
        places: dict[str, tuple[Path, int]] = {}
        for path in self.files():
            try:
                keys = self.keys(path)
            except FileNotFoundError:
                continue
            except DamagedError:
                self.remove(path)
                continue
            for position, key in enumerate(keys):
                places.setdefault(key, (path, position))
        return places

    def files(self) -> list[Path]:
        """All files of features."""
        return sorted(self.folder.glob("*.safetensors"))

    def keys(self, path: Path) -> list[str]:
        """The images of one file, whose name follows from them; its head alone is read.

        Raises:
            DamagedError: it does not fit.
            OSError: it can't be read.
        """
        if not self.rights.fits(path):
            raise DamagedError(f"{path}: not a file of this cache's owner")
        try:
            with safe_open(path, "pt") as file:
                keys = json.loads((file.metadata() or {})["images"])
        except (SafetensorError, KeyError, ValueError, RecursionError) as error:
            raise DamagedError(f"{path}: {error}") from error
        if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys) or self.path_of(keys) != path:
            raise DamagedError(f"{path}: names")
        return keys

    def remove(self, path: Path) -> None:
        """Take a file away that does not fit; its images are missing then."""
        path.unlink(missing_ok=True)
        self.removed += 1

    def open(self, path: Path, layout: Layout | None = None) -> StoredFile:
        """What is in ``path``, mapped: processes share the memory, and the system may drop and reread it.

        Args:
            layout: what it has to hold; None: whatever it says.

        Raises:
            DamagedError: it does not hold what it should, or is gone. Its numbers are not looked at yet.
            OSError: it can't be read.
        """
        try:
            keys = self.keys(path)
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                sums = (file.metadata() or {})["crc32"].split()
        except (SafetensorError, FileNotFoundError, KeyError) as error:
            raise DamagedError(f"{path}: {error}") from error
        block = (layout or Layout.of(tensors)).block(tensors, len(keys))
        if block is None or len(sums) != len(keys):
            raise DamagedError(f"{path}: shape or type")
        return StoredFile(path, block, sums)

    def path_of(self, keys: Sequence[str]) -> Path:
        """The file that holds these images; its name follows from them."""
        return self.folder / f"{hashlib.sha256(''.join(keys).encode()).hexdigest()[:32]}.safetensors"

    def write(self, path: Path, keys: Sequence[str], block: Block) -> None:
        """Write the features of the images ``keys``.

        Raises:
            OSError: there is no room, or the folder can't be written to.
        """
        temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
        mode = self.rights.new_file(temporary)
        sums = " ".join(checksum(block, position) for position in range(len(keys)))
        metadata = {"images": json.dumps(list(keys)), "crc32": sums}
        try:
            save_file(tensors_of(block), temporary, metadata)
            temporary.chmod(mode)  # safetensors makes a file that only its owner may read
            _to_disk(temporary)
            temporary.replace(path)
            self._written.append(path)
        except SafetensorError as error:
            raise OSError(f"{path.name}: {error}") from error
        finally:
            temporary.unlink(missing_ok=True)

    def withdraw(self) -> None:
        """Remove what this object wrote, to leave a full disk as it was."""
        while self._written:
            self._written.pop().unlink(missing_ok=True)

    @contextlib.contextmanager
    def claim(self, path: Path, patience: float = 0.0) -> Iterator[bool]:
        """Whether no other process is writing ``path``. The claim of a process that dies is void.

        Args:
            patience: seconds to wait for another process.
        """
        lock = self._lock(path.with_suffix(".lock"))
        try:
            lock.acquire(timeout=patience)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def hold(self) -> None:
        """Let other processes see that the folder is in use (:func:`in_use`), as long as this object is there.

        Where nothing can be written, as in a cache that root fills for all, nothing is: it can't be pruned from here.
        """
        with contextlib.suppress(OSError, NotImplementedError):
            in_use(self.folder, self.rights)  # takes away what processes left that ended
            os.utime(self.folder / _DESCRIPTION)
        while self._lease is None:
            lock = self._lock(self.folder / f"{uuid.uuid4().hex}{_IN_USE}")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue  # as below
            except (OSError, NotImplementedError):
                return
            # Another process may have taken it for one that was left behind, before it was locked.
            if os.path.exists(lock.lock_file):
                self._lease = lock

    def _lock(self, place: Path) -> FileLock:
        if place.is_symlink():  # taking the lock would empty what it leads to
            place.unlink(missing_ok=True)
        return FileLock(place, mode=self.rights.file_mode)


def in_use(folder: Path, rights: Rights) -> bool:
    """Whether a running process uses the features in ``folder``."""
    for path in folder.glob(f"*{_IN_USE}"):
        if path.is_symlink():
            continue
        lock = FileLock(path, mode=rights.file_mode)
        try:
            lock.acquire(blocking=False)
        except (OSError, NotImplementedError):  # another process has it, or nobody can tell
            return True
        path.unlink(missing_ok=True)
        lock.release()
    return False


def _to_disk(path: Path) -> None:
    """Wait until it is there: a file system on the network tells of a full disk or quota only then."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
