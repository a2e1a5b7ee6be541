"""Grey values of more than eight bits as eight: by one rule for all of them, which clips nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_BAND = 2**22
"""Values at a time, since each takes eight bytes meanwhile."""


def to_grey(values: Array, hidden: float | None = None) -> Array:
    """The least value is black (0), the greatest white (255), and those between lie on a line, rounded.

    Which bits of a file are used, whether numbers are signed, and what they count (photons, millimetres, Hounsfield
    units), no file format says; the values themselves are what is known. So brightness tells nothing from image to
    image. Where all values are equal, they are black. NaN is black; infinities, as the least and the greatest.

    Args:
        values: of any shape, integers or floats.
        hidden: a value that stands for a transparent pixel, which is white and does not count.

    Returns:
        uint8, of the same shape.
    """
    flat = values.reshape(-1)
    grey = np.zeros(flat.shape, np.uint8)
    bands = [slice(start, start + _BAND) for start in range(0, len(flat), _BAND)]
    extremes = [found for band in bands if (found := _extremes(flat[band], hidden))]
    if extremes:
        least, greatest = min(low for low, _ in extremes), max(high for _, high in extremes)
        for band in bands:
            grey[band] = _scaled(flat[band], least, greatest)
    if hidden is not None:
        grey[flat == hidden] = 255
    shaped: Array = grey.reshape(values.shape)
    return shaped


def _extremes(values: Array, hidden: float | None) -> tuple[float, float] | None:
    counted = values[np.isfinite(values)]
    if hidden is not None:
        counted = counted[counted != hidden]
    return (float(counted.min()), float(counted.max())) if counted.size else None


def _scaled(values: Array, least: float, greatest: float) -> Array:
    wide: Array = np.nan_to_num(values.astype(np.float64), nan=least, posinf=greatest, neginf=least)
    grey: Array = np.rint((wide - least) * (255 / ((greatest - least) or 1))).clip(0, 255).astype(np.uint8)
    return grey
