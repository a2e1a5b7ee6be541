"""The picture of a row, whatever way the data hold it."""

from __future__ import annotations

import weakref
from typing import Any

from fedumm.data.bad_rows import identity
from fedumm.errors import FedummError
from fedumm.texts import one_line

_views: dict[int, tuple[weakref.ref[Any], Any]] = {}
"""By the number of the object whose images they are, as long as it is there: making one takes longer than a picture."""


class BadImageError(FedummError):
    """The image of a row can't be read."""


def read_image(rows: Any, row: int) -> Any:
    """The picture of one row, RGB.

    Raises:
        BadImageError: it can't be read; the message names row and image.
    """
    try:
        picture = pictures_of(rows)[row]["image"]
        if picture is None:
            raise ValueError("there is none")
        return picture.convert("RGB")
    except Exception as error:  # of whatever file system it is
        why = one_line(error) or type(error).__name__
        raise BadImageError(
            f"The image of row {row}{identity(rows, row)} can't be read: {why}. Repair or remove it, and start again."
        ) from error


def pictures_of(rows: Any) -> Any:
    """The column ``image`` of ``rows`` and no other, as :class:`~fedumm.data.picture_feature.Picture`.

    Raises:
        ImageError: it holds no images.
    """
    key = id(rows)
    if key not in _views or _views[key][0]() is not rows:
        _views[key] = (weakref.ref(rows, lambda _: _views.pop(key, None) and None), _pictures(rows))
    return _views[key][1]


def _pictures(rows: Any) -> Any:
    # Not above: datasets takes long to import, and the commands that read no picture are quick.
    from fedumm.data.picture_feature import Picture, is_pictures
    from fedumm.images import ImageError

    feature = rows.features["image"]
    column = rows.select_columns("image").with_format(None)
    if isinstance(feature, Picture) and feature.decode:
        return column
    if not is_pictures(feature, rows.data.schema.field("image").type):
        raise ImageError(f"the column holds {type(feature).__name__}, not images")
    mode, places = (getattr(feature, name, None) for name in ("mode", "places"))
    return column.cast_column("image", Picture(mode=mode, places=places)) if rows.data.num_rows else column
