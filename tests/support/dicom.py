"""DICOM files of a patient who does not exist."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

Array = np.ndarray[Any, Any]
NAME = "Doe^Jane"


def dicom(pixels: Array, kind: str = "MONOCHROME2", bits: int = 16, **more: Any) -> bytes:
    """A file with these ``pixels``: ``(rows, columns)``, or ``(frames, rows, columns)``, or ``(rows, columns, 3)``."""
    colour = kind == "RGB"
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3.4"
    data.PatientName = NAME
    data.Rows, data.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 3 if colour else 1, kind
    data.BitsAllocated = 8 * pixels.dtype.itemsize
    data.BitsStored, data.HighBit = min(bits, data.BitsAllocated), min(bits, data.BitsAllocated) - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    if colour:
        data.PlanarConfiguration = 0
    if pixels.ndim == 3 and not colour:
        data.NumberOfFrames = len(pixels)
    content = pixels.tobytes()
    data.PixelData = content + b"\0" * (len(content) % 2)
    for name, value in more.items():
        setattr(data, name, value)
    return written(data)


def written(data: Dataset) -> bytes:
    """``data`` as the bytes of a file."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()
