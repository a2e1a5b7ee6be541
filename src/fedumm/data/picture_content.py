"""From what a column of pictures holds to the picture."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, BinaryIO

from fedumm.data.picture_text import decoded, found
from fedumm.data.places import Places, is_address
from fedumm.errors import FedummError
from fedumm.images import ImageError, describe_image, open_image

Content = bytes | memoryview | str
"""An image, or the path or the address of one."""

_BLOCK = 2**20


def content(data: bytes | memoryview | None, text: str | None, places: str | None, taken: int | None = None) -> Content:
    """What a row holds.

    Args:
        data: an embedded image.
        taken: how many of its bytes count; None: all.
        text: a name, or an image in characters; only looked at if there are no ``data``.
        places: :meth:`fedumm.data.places.Places.as_json`; None: files may lie anywhere.

    Raises:
        ImageError: there is none, or it may not be read.
    """
    if data is not None:
        return data if taken is None else data[:taken]
    if not text:
        raise ImageError("there is none")
    try:
        place = found(text, len(text), _places(places) if places else None)
    except FedummError as error:
        raise ImageError(f"it {error}") from None
    return decoded(text) if place is None else place


def opened(image: Content) -> Any:
    """The picture, RGB.

    Raises:
        ImageError: it can't be read.
    """
    if isinstance(image, str) and is_address(image):
        with _file(image) as file:
            return open_image(file.read())
    return open_image(image)


def described(image: Content) -> tuple[str, int, int]:
    """Its kind, width and height, as :func:`fedumm.images.describe_image` says.

    Raises:
        ImageError: it is no picture.
    """
    if isinstance(image, str) and is_address(image):
        with _file(image) as file:
            return describe_image(file.read())
    return describe_image(image)


def digest(image: Content) -> str:
    """SHA-256 of an image's file, in hexadecimal.

    Raises:
        Exception: of whatever file system it lies in.
    """
    found = hashlib.sha256()
    for block in _blocks(image) if isinstance(image, str) else [image]:
        found.update(block)
    return found.hexdigest()


def _blocks(place: str) -> Iterator[bytes]:
    with _file(place) as file:
        while block := file.read(_BLOCK):
            yield block


@contextmanager
def _file(place: str) -> Iterator[BinaryIO]:
    import fsspec

    with fsspec.open(place, "rb") if is_address(place) else open(place, "rb") as file:
        yield file


@lru_cache(maxsize=64)
def _places(facts: str) -> Places:
    return Places.from_json(facts)
