"""From any of Pillow's modes to RGB, with nothing clipped and nothing hidden shown."""

from __future__ import annotations

import numpy as np
from PIL import Image

from fedumm.images.grey import to_grey

_WIDE = ("I", "F")
"""How the modes of more than eight bits begin: ``I``, ``I;16``, ``I;16B``, ``F``."""

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
"""Tags of TIFF 6.0."""
_WHITE_IS_ZERO, _UNSIGNED = 0, (1,)


def to_rgb(image: Image.Image) -> Image.Image:
    """``image`` as RGB: wide greys by :func:`~fedumm.images.grey.to_grey`, what is transparent on white."""
    if image.mode.startswith(_WIDE):
        return _from_wide(image)
    if image.mode == "LAB":
        return _from_lab(image)
    if image.has_transparency_data:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_wide(image: Image.Image) -> Image.Image:
    """With what Pillow leaves to its user of a TIFF file: numbers without a sign, and white as zero."""
    tags = getattr(image, "tag_v2", {})
    values, hidden = np.asarray(image), image.info.get("transparency")
    if values.dtype.kind == "i" and tags.get(_SAMPLE_FORMAT) in (_UNSIGNED, None) and tags.get(_BITS) == (32,):
        values = values.view(f"{values.dtype.byteorder}u4")
    grey = to_grey(values, hidden if isinstance(hidden, int) else None)
    return Image.fromarray(255 - grey if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else grey).convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")
    clear = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None  # only in place it returns nothing
    return converted
