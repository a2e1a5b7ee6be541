"""Opening pictures: a few common formats, up to a size, always the same RGB, and one error for all that is wrong.

Left to itself, Pillow tries some forty formats, starts Ghostscript for one of them, and each reader has its own errors.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from fedumm.images.errors import MOST_PIXELS, ImageError, check_size
from fedumm.images.quiet import quiet
from fedumm.images.rgb import to_rgb

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""As Pillow names them; MPO is how some cameras write JPEG. DICOM is read besides, by pydicom."""

VERSION = 2
"""Rises when a picture that was read before becomes another one: features of it are kept under this number."""

Seen = TypeVar("Seen")
_HEAD = 132
_STARTS = (
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+",
    b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51",
)  # fmt: skip


def open_image(source: str | Path | bytes | bytearray | memoryview) -> Image.Image:
    """The first picture of a file, RGB, turned as its camera says.

    - Transparent pixels (alpha, or a colour that the file declares so) lie on white.
    - One channel of more than eight bits: the least value is black and the greatest white
      (:func:`fedumm.images.grey.to_grey`). Of several such channels Pillow reads the upper eight bits.
    - CMYK, YCbCr, HSV, LAB and palettes are converted; colour profiles are not applied.
    - DICOM: its own window, or else the rule for wide greys (:func:`fedumm.images.dicom.read_dicom`).

    Args:
        source: a file, or its content.

    Raises:
        ImageError: it is no picture of a known kind, damaged, or too large.
    """
    return _opened(source, _read)


def describe_image(source: str | Path | bytes | bytearray | memoryview) -> tuple[str, int, int]:
    """What a picture's file says of it: its kind (``PNG RGB``, ``TIFF I;16``, ``DICOM``), width and height in pixels.

    Raises:
        ImageError: it is no picture of a known kind.
    """
    return _opened(source, _describe)


def _opened(source: str | Path | bytes | bytearray | memoryview, use: Callable[[BinaryIO], Seen]) -> Seen:
    try:
        with quiet():
            if isinstance(source, bytes | bytearray | memoryview):
                return use(io.BytesIO(source))
            with open(source, "rb") as file:
                return use(file)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"it has more than {MOST_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"it is damaged, or of none of the kinds {', '.join((*_formats(), 'DICOM'))}") from error
    except Exception as error:  # each of Pillow's readers has its own
        raise ImageError(str(error) or type(error).__name__) from error


def looks_like_image(head: bytes) -> bool:
    """Whether what begins with ``head`` (132 bytes are enough) says that it is a picture of a kind that is read."""
    kind = head[4:12] in (b"ftypavif", b"ftypavis") or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
    portable = head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace()
    return kind or portable or head.startswith(_STARTS) or _is_dicom(head)


def _is_dicom(head: bytes) -> bool:
    return head[128:132] == b"DICM"


def _read(file: BinaryIO) -> Image.Image:
    if _begins_as_dicom(file):
        from fedumm.images.dicom import read_dicom

        return read_dicom(file)
    with Image.open(file, formats=_formats()) as image:
        check_size(image.width, image.height)
        image.load()
        turned = image.getexif().get(ExifTags.Base.Orientation) is not None
        return to_rgb(ImageOps.exif_transpose(image) if turned else image)


def _describe(file: BinaryIO) -> tuple[str, int, int]:
    if _begins_as_dicom(file):
        from fedumm.images.dicom import read_dicom

        return "DICOM", *read_dicom(file).size
    with Image.open(file, formats=_formats()) as image:
        return f"{image.format} {image.mode}", image.width, image.height


def _begins_as_dicom(file: BinaryIO) -> bool:
    head = file.read(_HEAD)
    file.seek(0)
    return _is_dicom(head)


def _formats() -> list[str]:
    """Those that this Pillow was built with."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]
