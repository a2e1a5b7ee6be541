"""Whether features on this disk save time: what it takes to encode an image here, against reading its features."""

from __future__ import annotations

import os
import platform
import random
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fedumm.features.encode import Encoder
from fedumm.features.layout import tensors_of
from fedumm.features.store import ShardStore

WEIGHED = 10**9
"""Bytes of features from which on they are weighed: fewer are cheap to keep, and the system holds them in memory."""

_PROBE = 64 * 2**20
_FRESH = 3600.0
"""Seconds for which what was measured holds, so that hosts which start together, or a run that is resumed, agree."""

_PATIENCE = 300.0
_FILE = "speed.json"


class NotWorthwhileError(Exception):
    """Computing features again and again is faster than reading them."""


@dataclass(frozen=True)
class Speed:
    """Seconds that one image takes to be encoded, and its features to be written and read back."""

    encode: float
    write: float
    read: float

    def seconds(self, missing: int, needed: float) -> tuple[float, float]:
        """With features on disk, and without.

        Args:
            missing: images that are not on disk yet.
            needed: how often the features of any image are needed.
        """
        return missing * (self.encode + self.write) + needed * self.read, needed * self.encode

    def told(self, images: int, needed: float) -> str:
        """What was weighed, for people."""
        return (
            f"an image takes {_time(self.encode)} to encode here and its features {_time(self.read)} to read, "
            f"each about {needed / images:.1f} times"
        )


def weighed(encoder: Encoder, store: ShardStore, missing: int, needed: float) -> str:
    """Why the features are kept on disk.

    All reading is taken to be from the disk, though the system may hold some in memory and reading overlaps with
    training; so where this says that it pays, it does.

    Raises:
        NotWorthwhileError: encoding the images each time anew is faster.
        OSError: the folder can't be written to.
    """
    speed = _speed(encoder, store)
    kept, again = speed.seconds(missing, needed)
    told = speed.told(len(encoder.images), needed)
    if kept > again:
        raise NotWorthwhileError(f"reading them from {store.top} would take longer: {told}")
    return told


def _speed(encoder: Encoder, store: ShardStore) -> Speed:
    """Measured now, or by another process of this machine not long ago."""
    with store.claim(store.folder / _FILE, _PATIENCE):
        known = _known(store.facts(_FILE))
        if known is None:
            known = measure(encoder, store)
            store.put_facts(_FILE, asdict(known) | {"machine": platform.node(), "time": time.time()})
        return known


def _known(facts: dict[str, Any]) -> Speed | None:
    values = [facts.get(name) for name in ("encode", "write", "read", "time")]
    if not all(isinstance(value, float) and value >= 0 for value in values) or facts.get("machine") != platform.node():
        return None
    return Speed(*(float(value or 0) for value in values[:3])) if 0 <= time.time() - facts["time"] < _FRESH else None


def measure(encoder: Encoder, store: ShardStore) -> Speed:
    """Encode a batch twice, of which the second counts; write it to the disk, and read it back from there."""
    images = encoder.distinct.first_few(max(encoder.batch_size(), 4))
    encoder.seconds(images)
    block, seconds = encoder.seconds(images)
    numbers = b"".join(t.contiguous().view(-1).view(torch.uint8).numpy().tobytes() for t in tensors_of(block).values())
    piece = max(1, len(numbers) // len(images))
    content = numbers * max(1, _PROBE // max(1, len(numbers)))
    path = store.folder / f"{uuid.uuid4().hex}.tmp"
    store.rights.new_file(path)
    try:
        write, read = _to_and_fro(path, content, piece)
    finally:
        path.unlink(missing_ok=True)
    count = len(content) / piece
    return Speed(seconds / len(images), write / count, read / count)


def _to_and_fro(path: Path, content: bytes, piece: int) -> tuple[float, float]:
    """Seconds to write ``content``, and to read it in pieces in any order, from the disk where the system can be asked
    to forget it (Linux); the memory's speed elsewhere."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        start = time.perf_counter()
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
        written = time.perf_counter()
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        places = list(range(0, len(content), piece))
        random.Random(0).shuffle(places)
        begun = time.perf_counter()
        for place in places:
            os.pread(descriptor, piece, place)
        return written - start, time.perf_counter() - begun
    finally:
        os.close(descriptor)


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
