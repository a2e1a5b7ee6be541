"""What identifies an image: its content, wherever it lies. And which images can't be read."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from fedumm.data.picture import pictures_of
from fedumm.data.picture_content import Content, content, described, digest, opened
from fedumm.data.pictures import image_facts, image_paths
from fedumm.data.places import is_address
from fedumm.data.request import Progress
from fedumm.images import ImageError
from fedumm.texts import one_line

Seen = TypeVar("Seen")
READ = 64 * 2**20
"""Bytes of embedded images at a time; of a larger one, it alone."""

_ROWS = 1000
"""At a time, at most, so that progress is seen: files are read besides."""


def image_digests(
    rows: Any,
    progress: Progress | None = None,
    numbers: Sequence[int] | None = None,
    known: MutableMapping[str, str] | None = None,
) -> list[str]:
    """SHA-256 of each row's image, in hexadecimal: the same for the same content, embedded, in a file or in base64.

    Nothing is decoded. Each file is read once, and of what is embedded :data:`READ` bytes at a time. An image that
    can't be had gets a key that no other has or will have: reading it will say what is wrong, and in which row.

    Args:
        progress: told how many rows are done.
        numbers: of the rows that are asked for, in this order; None: all.
        known: digests of files, by their paths: those in it are not read, and those that are read are added.
    """
    known = {} if known is None else known
    digests: list[str] = []
    for part in _parts(rows, numbers):
        digests += [_key(image, known) for image in part]
        if progress:
            progress("looking at the images", len(digests), len(rows) if numbers is None else len(numbers))
    return digests


def fewest_images(parts: Sequence[Any]) -> int:
    """How many distinct images there are at least in rows of several data sets, without reading any.

    Images of different sizes in bytes are different ones. Those on the network and in characters do not count.
    """
    sizes: set[int] = set()
    files: set[str] = set()
    for rows in parts:
        sizes.update(facts.size for facts in image_facts(rows) if facts.size)
        files.update(path for path in image_paths(rows) if path and not is_address(path))
    sizes.update(size for path in files if (size := _size(path)))
    return max(1, len(sizes))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def bad_images(rows: Any, progress: Progress | None = None, numbers: Sequence[int] | None = None) -> dict[int, str]:
    """The rows whose image can't be read, and why: half a sentence.

    Each file is opened once, and of embedded images each distinct one.

    Args:
        progress: told how many rows are done.
        numbers: of the rows that are looked at; None: all.
    """
    keys, reasons = _looked_at(rows, progress, numbers, _fault)
    named = range(len(rows)) if numbers is None else numbers
    return {row: reasons[key] for row, key in zip(named, keys, strict=True) if reasons[key]}


def image_kinds(rows: Any, progress: Progress | None = None) -> list[tuple[str, int, int]]:
    """The kind (``PNG RGB``), width and height in pixels of each distinct image, as its file says.

    Args:
        progress: told how many rows are done.
    """
    return list(_looked_at(rows, progress, None, _kind)[1].values())


def _looked_at(
    rows: Any, progress: Progress | None, numbers: Sequence[int] | None, look: Callable[[Content | ImageError], Seen]
) -> tuple[list[str], dict[str, Seen]]:
    """A key for the image of each row, and what was seen in each distinct one."""
    total = len(rows) if numbers is None else len(numbers)
    seen: dict[str, Seen] = {}
    keys: list[str] = []
    with ThreadPoolExecutor(_cores()) as pool:
        for part in _parts(rows, numbers):
            opened: dict[str, Future[Seen]] = {}
            for image in part:
                keys.append(key := image if isinstance(image, str) else _key(image, {}))
                if key not in seen and key not in opened:
                    opened[key] = pool.submit(look, image)
            seen |= {key: future.result() for key, future in opened.items()}
            if progress:
                progress("opening the images", len(keys), total)
    return keys, seen


def _parts(rows: Any, numbers: Sequence[int] | None) -> Iterator[list[Content | ImageError]]:
    """The images of the rows, in parts of about :data:`READ` bytes; those in files by their place."""
    if not len(rows):
        return
    pictures = pictures_of(rows)
    places = pictures.features["image"].places
    chosen = pictures if numbers is None else pictures.select(numbers)
    sizes = [(facts.size or 0) + facts.length for facts in image_facts(chosen)]
    table = chosen.with_format("arrow")
    for start, stop in _bounds(sizes):
        columns = [chunk.flatten() for chunk in table[start:stop]["image"].chunks]
        yield [
            _content(data.as_buffer(), text.as_py(), places, taken.as_py())
            for column in columns
            for data, text, taken in zip(*column, strict=True)
        ]


def _bounds(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Rows in a row with at most :data:`READ` bytes together, or one row."""
    start = total = 0
    for row, size in enumerate(sizes):
        if row > start and (total + size > READ or row - start == _ROWS):
            yield start, row
            start = row
            total = 0
        total += size
    if sizes:
        yield start, len(sizes)


def _content(data: Any, text: str | None, places: str | None, taken: int | None) -> Content | ImageError:
    try:
        return content(None if data is None else memoryview(data), text, places, taken)
    except ImageError as error:
        return error


def _key(image: Content | ImageError, known: MutableMapping[str, str]) -> str:
    """What the image is known by; ``known``: files that were read before."""
    if isinstance(image, str) and image in known:
        return known[image]
    try:
        key = _nowhere() if isinstance(image, ImageError) else digest(image)
    except Exception:  # of whatever file system it is
        key = _nowhere()
    if isinstance(image, str):
        known[image] = key
    return key


def _nowhere() -> str:
    return f"unknown-{uuid.uuid4().hex}"


def _fault(image: Content | ImageError) -> str:
    """Why the image can't be read, or nothing."""
    try:
        if isinstance(image, ImageError):
            raise image
        opened(image)
    except Exception as error:  # of whatever file system it is
        return one_line(error) or type(error).__name__
    return ""


def _kind(image: Content | ImageError) -> tuple[str, int, int]:
    try:
        if isinstance(image, ImageError):
            raise image
        return described(image)
    except Exception:  # of whatever file system it is
        return "unreadable", 0, 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
