"""Pictures of a data set, opened by us: ``datasets`` lets Pillow try every format it has a reader for."""

from __future__ import annotations

import weakref
from typing import Any

from fedumm.images import ImageError, load_image

_views: dict[int, tuple[weakref.ref[Any], Any]] = {}
"""By the number of the object whose images they are, as long as it is there: making one takes longer than a picture."""


def picture(rows: Any, row: int) -> Any:
    """The picture of one row, RGB.

    Raises:
        ImageError: it can't be read, or there is none.
    """
    from datasets import Image

    feature = rows.features["image"]
    if not isinstance(feature, Image):
        raise ImageError(f"the column holds {type(feature).__name__}, not images")
    stored = _undecoded(rows)[row]["image"]
    if stored is None or (stored["bytes"] is None and stored["path"] is None):
        raise ImageError("there is none")
    image = load_image(_content(stored["path"]) if stored["bytes"] is None else stored["bytes"])
    if feature.mode and feature.mode != image.mode:
        image = image.convert(feature.mode)
    return image.convert("RGB")


def _undecoded(rows: Any) -> Any:
    from datasets import Image

    key = id(rows)
    if key not in _views or _views[key][0]() is not rows:
        view = rows.select_columns("image").cast_column("image", Image(decode=False))
        _views[key] = (weakref.ref(rows, lambda _: _views.pop(key, None) and None), view)
    return _views[key][1]


def _content(path: str) -> bytes | str:
    """What lies at an address; a local file by its name."""
    if "://" not in path:
        return path
    import fsspec

    with fsspec.open(path, "rb") as file:
        content: bytes = file.read()
    return content
