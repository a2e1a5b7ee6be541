"""Features on disk: files that several processes fill together, and map into memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from fedumm.backends.feature_table import Block
from fedumm.features.rights import Rights

_STALE_SECONDS = 3600.0
_FEATURES, _BESIDE = "features", "beside"
_LENGTHS = {_FEATURES: "lengths", _BESIDE: "beside_lengths"}
"""Where images differ in length: how long each one's part is."""

_NAMES = (_FEATURES, _LENGTHS[_FEATURES], _BESIDE, _LENGTHS[_BESIDE])

_DESCRIPTION = "stage.json"
_LONGEST = 1_000_000


class DamagedError(Exception):
    """A file is cut short or altered, or does not hold what it should."""


class ShardStore:
    """A folder of safetensors files, each the features of up to a few dozen images.

    A file appears whole or not at all (it is renamed into place), names its images and carries the
    CRC-32 of its numbers, which is checked when it is opened. Nothing is read through a link. Of images that differ
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

    def create(self, description: dict[str, object]) -> None:
        """Make the folder, with a file that tells a person what is in it."""
        self.rights.make(self.top, self.folder)
        self.rights.check(self.top, self.folder)
        draft = self.folder / f"{uuid.uuid4().hex}.tmp"
        mode = self.rights.new_file(draft)
        draft.write_text(json.dumps(description, indent=1))
        draft.chmod(mode)
        os.replace(draft, self.folder / _DESCRIPTION)
        for left in self.folder.glob("*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                    left.unlink()

    def shape(self) -> tuple[int, ...] | None:
        """That of one image's features, if :meth:`create` was told (``shape``)."""
        path = self.folder / _DESCRIPTION
        try:
            if not self.rights.fits(path) or path.stat().st_size > _LONGEST:
                return None
            shape = json.loads(path.read_bytes())["shape"]
            return tuple(map(int, shape)) if isinstance(shape, list) else None
        except (FileNotFoundError, KeyError, TypeError, ValueError, RecursionError):
            return None

    def find(self) -> dict[str, tuple[Path, int]]:
        """Where each image is: file and position. Reads headers only; files that do not fit are removed.

        Raises:
            OSError: the folder is another user's, or can't be read.
        """
        self.rights.check(self.top, self.folder)
        places: dict[str, tuple[Path, int]] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                keys = self._keys(path)
            except FileNotFoundError:
                continue
            except DamagedError:
                self.remove(path)
                continue
            for position, key in enumerate(keys):
                places.setdefault(key, (path, position))
        return places

    def _keys(self, path: Path) -> list[str]:
        """The images of one file, whose name follows from them."""
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

    def open(self, path: Path, shape: tuple[int, ...], dtype: torch.dtype, one_by_one: bool = False) -> Block:
        """The features in ``path``, mapped: processes share the memory, and the system may drop and reread it.

        Args:
            shape: of one image's features; of those that differ in length, without the first dimension.
            one_by_one: they do.

        Raises:
            DamagedError: the content is not what was written, or not what the stage would say, or the file is gone.
            OSError: it can't be read.
        """
        try:
            images = len(self._keys(path))
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                expected = (file.metadata() or {})["crc32"]
        except (SafetensorError, FileNotFoundError, KeyError) as error:
            raise DamagedError(f"{path}: {error}") from error
        if not _fitting(tensors, images, shape, dtype, one_by_one):
            raise DamagedError(f"{path}: shape or type")
        if _checksum(tensors) != expected:
            raise DamagedError(f"{path}: checksum")
        if not finite(tensors[_FEATURES]):
            raise DamagedError(f"{path}: not finite")
        return Block(*map(tensors.get, _NAMES))  # type: ignore[arg-type]

    def path_of(self, keys: Sequence[str]) -> Path:
        """The file that holds these images; its name follows from them."""
        return self.folder / f"{hashlib.sha256(''.join(keys).encode()).hexdigest()[:32]}.safetensors"

    def write(self, path: Path, keys: Sequence[str], block: Block) -> None:
        """Write the features of the images ``keys``."""
        given = (block.features, block.lengths, block.all_beside, block.beside_lengths)
        tensors = {name: tensor for name, tensor in zip(_NAMES, given, strict=True) if tensor is not None}
        temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
        mode = self.rights.new_file(temporary)
        metadata = {"images": json.dumps(list(keys)), "crc32": _checksum(tensors)}
        try:
            save_file(tensors, temporary, metadata)
            temporary.chmod(mode)  # safetensors makes a file that only its owner may read
            temporary.replace(path)
        except SafetensorError as error:
            raise OSError(f"{path.name}: {error}") from error
        finally:
            temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def claim(self, path: Path) -> Iterator[bool]:
        """Whether no other process is writing ``path``. The claim of a process that dies is void."""
        place = path.with_suffix(".lock")
        if place.is_symlink():  # taking the lock would empty what it leads to
            place.unlink(missing_ok=True)
        lock = FileLock(place, mode=self.rights.file_mode)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            place.unlink(missing_ok=True)
            lock.release()


def finite(features: torch.Tensor) -> bool:
    """Whether every number is; in one pass, without a copy."""
    return not (features.is_floating_point() and features.numel()) or bool(
        torch.isfinite(torch.stack(torch.aminmax(features))).all()
    )


def _fitting(
    tensors: dict[str, torch.Tensor], images: int, shape: tuple[int, ...], dtype: torch.dtype, one_by_one: bool
) -> bool:
    """Whether these are the tensors of ``images`` images."""
    if not one_by_one:
        given = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
        return given == {_FEATURES: ((images, *shape), dtype)}
    if tensors.keys() != set(_NAMES):
        return False
    for name, width, own in ((_FEATURES, shape, dtype), (_BESIDE, (), torch.int64)):
        values, lengths = tensors[name], tensors[_LENGTHS[name]]
        if (values.shape[1:], values.dtype) != (width, own):
            return False
        if (lengths.shape, lengths.dtype) != ((images,), torch.int64):
            return False
        if any(not 0 <= length <= len(values) for length in lengths.tolist()) or lengths.sum() != len(values):
            return False
    return True


def _checksum(tensors: dict[str, torch.Tensor]) -> str:
    crc = 0
    for name in sorted(tensors):
        crc = zlib.crc32(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"
