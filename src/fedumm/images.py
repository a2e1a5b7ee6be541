"""Opening pictures that anybody may have made: a few common formats, up to a size, and one error for all that is wrong.

Left to itself, Pillow tries some forty formats, starts Ghostscript for one of them, and each reader has its own errors.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""As Pillow names them; MPO is how some cameras write JPEG."""

MOST_PIXELS = 178_956_970
"""Three bytes each: half a gigabyte. Where Pillow too refuses by itself."""


class ImageError(ValueError):
    """A picture that can't be read, and why: half a sentence."""


def open_image(source: str | Path | bytes) -> Image.Image:
    """The whole picture, RGB, turned as its camera says.

    Args:
        source: a file, or its content.

    Raises:
        ImageError: it is no picture of a known kind, damaged, or too large.
    """
    image = load_image(source)
    return image if image.mode == "RGB" else image.convert("RGB")


def load_image(source: str | Path | bytes) -> Image.Image:
    """As :func:`open_image`, in the picture's own mode."""
    try:
        with warnings.catch_warnings():
            # Of a picture of more than half as many pixels.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_formats())
        with image:
            if image.width * image.height > MOST_PIXELS:
                raise ImageError(f"it has {image.width:,} x {image.height:,} pixels, more than {MOST_PIXELS:,}")
            image.load()
            oriented = image.getexif().get(ExifTags.Base.Orientation) is not None
            return ImageOps.exif_transpose(image) if oriented else image
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"it has more than {MOST_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"it is damaged, or of none of the kinds {', '.join(_formats())}") from error
    except Exception as error:  # each of Pillow's readers has its own
        raise ImageError(str(error) or type(error).__name__) from error


def _formats() -> list[str]:
    """Those that this Pillow was built with."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]
