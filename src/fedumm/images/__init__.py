"""Opening pictures that anybody may have made, always as the same RGB: the one place where that is done."""

from fedumm.images.errors import MOST_PIXELS, ImageError
from fedumm.images.reader import FORMATS, VERSION, looks_like_image, open_image

__all__ = ["FORMATS", "MOST_PIXELS", "VERSION", "ImageError", "looks_like_image", "open_image"]
