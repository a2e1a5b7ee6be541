"""Opening pictures that anybody may have made, always as the same RGB: the one place where that is done."""

from fedumm.images.errors import MOST_PIXELS, ImageError
from fedumm.images.reader import FORMATS, VERSION, describe_image, looks_like_image, open_image

__all__ = ["FORMATS", "MOST_PIXELS", "VERSION", "ImageError", "describe_image", "looks_like_image", "open_image"]
