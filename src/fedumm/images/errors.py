"""What is wrong with a picture."""

MOST_PIXELS = 178_956_970
"""Three bytes each: half a gigabyte. Where Pillow too refuses by itself."""


class ImageError(ValueError):
    """A picture that can't be read, and why: half a sentence."""


def check_size(width: int, height: int) -> None:
    """Raise :class:`ImageError` if a picture has too many pixels."""
    if width * height > MOST_PIXELS:
        raise ImageError(f"it has {width:,} x {height:,} pixels, more than {MOST_PIXELS:,}")
