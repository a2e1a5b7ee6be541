"""DICOM as the people who made it look at it: rescaled, through its window, and with its own idea of white.

A file of this kind names a patient. So nothing that pydicom says is passed on: its errors and warnings quote values.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from fedumm.images.errors import ImageError, check_size
from fedumm.images.grey import to_grey

Array = np.ndarray[Any, Any]
_META = 132
"""Where the description of the file begins."""


def read_dicom(file: BinaryIO) -> Image.Image:
    """The first frame of a DICOM file, RGB.

    Grey values go through the modality LUT (or slope and intercept) and then through the first VOI LUT or window, by
    the formulas of DICOM PS3.3, C.11.2; without one, from the least to the greatest. MONOCHROME1 is turned round.

    Raises:
        ImageError: pydicom is not installed, it holds no image, or is compressed in a way that nothing here reads.
    """
    try:
        import pydicom
    except ImportError:
        raise ImageError("it is DICOM: pip install 'fedumm[dicom]'") from None
    try:
        _check_syntax(file)
        data = pydicom.dcmread(file, stop_before_pixels=True)
        file.seek(0)
        return _frame(data, file)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"its DICOM data can't be read ({type(error).__name__})") from None


def _check_syntax(file: BinaryIO) -> None:
    """Raise :class:`ImageError` of a compression that nothing here reads, or that may unpack to any size."""
    from pydicom.filereader import read_dataset
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    file.seek(_META)
    meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag.group != 2)
    file.seek(0)
    syntax = meta.TransferSyntaxUID
    if syntax == DeflatedExplicitVRLittleEndian:
        raise ImageError("it is DICOM compressed as a whole (deflated)")
    if syntax.is_compressed and not get_decoder(syntax).is_available:
        raise ImageError(
            f"it is DICOM compressed as {syntax.name}, which needs another package: pip install python-gdcm, or "
            "pylibjpeg with its plugins"
        )


def _frame(data: Any, file: BinaryIO) -> Image.Image:
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    if "Rows" not in data or "Columns" not in data:
        raise ImageError("it is DICOM without an image")
    check_size(data.Columns, data.Rows)
    pixels = pixel_array(file, index=0)
    kind = data.PhotometricInterpretation
    if kind == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, data)[..., :3]
        bits = 8 * pixels.dtype.itemsize
    elif pixels.ndim == 3:
        bits = data.BitsStored
    else:
        grey = _grey(pixels, data)
        return Image.fromarray(255 - grey if kind == "MONOCHROME1" else grey).convert("RGB")
    return Image.fromarray((pixels >> max(0, bits - 8)).astype(np.uint8))


def _grey(pixels: Array, data: Any) -> Array:
    """8-bit greys, before MONOCHROME1 is turned round."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    values = apply_modality_lut(pixels, _part(data, "PixelValueTransformationSequence", "RescaleSlope"))
    voi = _part(data, "FrameVOILUTSequence", "WindowCenter")
    if voi.get("VOILUTSequence"):
        bits = voi.VOILUTSequence[0].LUTDescriptor[2]
        return _bytes(apply_voi(values, voi) / (2.0**bits - 1))
    if voi.get("WindowCenter") is None or voi.get("WindowWidth") is None:
        return to_grey(values)
    shape = str(voi.get("VOILUTFunction") or "LINEAR").upper()
    return _bytes(_windowed(values.astype(np.float64), _first(voi.WindowCenter), _first(voi.WindowWidth), shape))


def _windowed(values: Array, center: float, width: float, shape: str) -> Array:
    """Shares of white (0 to 1, and beyond) by PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    if shape == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / max(width, 1e-9), -700, 700)))
    if shape == "LINEAR_EXACT":
        return (values - center) / max(width, 1e-9) + 0.5
    return (values - (center - 0.5)) / max(width - 1, 1e-9) + 0.5


def _bytes(shares: Array) -> Array:
    grey: Array = np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)
    return grey


def _part(data: Any, name: str, mark: str) -> Any:
    """Where ``mark`` stands: in the file itself, or in an enhanced one with the first frame or with all of them."""
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        first = data.get(groups)
        part = first[0].get(name) if first else None
        if part and mark in part[0]:
            return part[0]
    return data


def _first(value: Any) -> float:
    return float(value if isinstance(value, int | float | str) else value[0])
