"""Several images as one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image

_GAP = 4


def grid(images: Sequence[Image.Image], columns: int = 0) -> Image.Image:
    """Images of one size side by side, ``columns`` in a row (0: about as many as rows), with white between them."""
    if len(images) == 1:
        return images[0]
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = -(-len(images) // columns)
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP), "white")
    for place, image in enumerate(images):
        sheet.paste(image, (place % columns * (width + _GAP), place // columns * (height + _GAP)))
    return sheet
