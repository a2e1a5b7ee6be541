"""What a text in a column of images means: the name of a file, or an image itself, as a ``data:`` URI or as base64."""

from __future__ import annotations

import base64
import binascii
import os
import re
from urllib.parse import unquote_to_bytes

from fedumm.data.places import Places, is_address
from fedumm.errors import FedummError
from fedumm.images import ImageError, looks_like_image
from fedumm.texts import one_line

LONGEST_NAME = 4096
"""Of a file, on any system. What is longer is no name."""

HEAD = 256
"""Characters that are enough to know base64 of an image by."""

_ALPHABET = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_LEAST = 32


def is_encoded(text: str) -> bool:
    """Whether ``text``, or what begins with it, is an image and not the name of one."""
    if text.startswith("data:"):
        return True
    packed = "".join(text[:HEAD].split())
    if len(packed) < _LEAST or not _ALPHABET.fullmatch(packed):
        return False
    return looks_like_image(base64.b64decode(packed.rstrip("=")[: len(packed.rstrip("=")) // 4 * 4]))


def decoded(text: str) -> bytes:
    """The image that ``text`` is, of which :func:`is_encoded` holds. Line ends in base64 are passed over.

    Raises:
        ImageError: it is damaged.
    """
    header, comma, body = text.partition(",") if text.startswith("data:") else ("data:;base64", ",", text)
    try:
        if not comma:
            raise ImageError("its data: address has no comma, after which the image would begin")
        if not header.endswith(";base64"):
            return unquote_to_bytes(body)
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"its base64 text is damaged: {error}") from None


def found(text: str, length: int, places: Places | None) -> str | None:
    """The full path, or the address, of the file that ``text`` names; None if ``text`` is an image itself.

    Args:
        text: whole, or what a text that is too long for a name begins with.
        length: of the whole text.
        places: where files may lie; None: anywhere.

    Raises:
        FedummError: it is neither; a half sentence that begins with the name.
    """
    if text.startswith("data:"):
        return None
    if length <= LONGEST_NAME:
        try:
            return places.find(text) if places else _anywhere(text)
        except FedummError:
            if not is_encoded(text):
                raise
    elif not is_encoded(text):
        raise FedummError(f"holds a text of more than {LONGEST_NAME:,} characters, which is no image")
    return None


def _anywhere(name: str) -> str:
    if not is_address(name) and not os.path.isfile(name):
        raise FedummError(f"names '{one_line(name, 200)}', and there is no such file")
    return name
