"""Features on disk: files that several processes fill together, and map into memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

_STALE_SECONDS = 3600.0
_TENSOR = "features"


class DamagedError(Exception):
    """A file is cut short or altered."""


class ShardStore:
    """A folder of safetensors files, each the features of up to a few dozen images.

    A file appears whole or not at all (it is renamed into place), names its images and carries the
    CRC-32 of its numbers, which is checked when it is opened.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self, description: dict[str, object]) -> None:
        """Make the folder, with a file that tells a person what is in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "stage.json").write_text(json.dumps(description, indent=1))
        for left in self.folder.glob("*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                    left.unlink()

    def find(self) -> dict[str, tuple[Path, int]]:
        """Where each image is: file and position. Reads headers only; unreadable files are removed."""
        places: dict[str, tuple[Path, int]] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                with safe_open(path, "pt") as file:
                    keys = json.loads((file.metadata() or {})["images"])
            except FileNotFoundError:
                continue
            except (SafetensorError, KeyError, ValueError):
                path.unlink(missing_ok=True)
                continue
            for position, key in enumerate(keys):
                places.setdefault(key, (path, position))
        return places

    def open(self, path: Path) -> torch.Tensor:
        """The features in ``path``, mapped: processes share the memory, and the system may drop and reread it.

        Raises:
            DamagedError: the content is not what was written, or the file is gone.
            OSError: it can't be read.
        """
        try:
            with safe_open(path, "pt") as file:
                features: torch.Tensor = file.get_tensor(_TENSOR)
                expected = (file.metadata() or {})["crc32"]
        except (SafetensorError, FileNotFoundError, KeyError) as error:
            raise DamagedError(f"{path}: {error}") from error
        if _checksum(features) != expected:
            raise DamagedError(f"{path}: checksum")
        return features

    def path_of(self, keys: Sequence[str]) -> Path:
        """The file that holds these images; its name follows from them."""
        return self.folder / f"{hashlib.sha256(''.join(keys).encode()).hexdigest()[:32]}.safetensors"

    def write(self, path: Path, keys: Sequence[str], features: torch.Tensor) -> None:
        """Write ``features``, ``(len(keys), ...)``."""
        temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
        metadata = {"images": json.dumps(list(keys)), "crc32": _checksum(features)}
        try:
            save_file({_TENSOR: features}, temporary, metadata)
            temporary.replace(path)
        except SafetensorError as error:
            raise OSError(f"{path.name}: {error}") from error
        finally:
            temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def claim(self, path: Path) -> Iterator[bool]:
        """Whether no other process is writing ``path``. The claim of a process that dies is void."""
        lock = FileLock(path.with_suffix(".lock"))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            path.with_suffix(".lock").unlink(missing_ok=True)
            lock.release()


def _checksum(features: torch.Tensor) -> str:
    return f"{zlib.crc32(features.contiguous().view(torch.uint8).numpy().data):08x}"
