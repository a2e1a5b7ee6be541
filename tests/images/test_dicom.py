"""DICOM as its makers look at it, by the formulas of the standard; and not a word about the patient."""

from __future__ import annotations

import io
import logging
import sys
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGLosslessSV1

from fedumm.images import ImageError, looks_like_image, open_image
from support.dicom import NAME, dicom, written
from support.pictures import encoded, noise

Array = np.ndarray[Any, Any]


def grey(data: bytes) -> Array:
    pixels = np.asarray(open_image(data))
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


CT = np.arange(4096, dtype=np.uint16).reshape(64, 64)
"""As scanners write Hounsfield units: with 1024 added."""


def linear(values: Array, center: float, width: float) -> Array:
    """PS3.3 C.11.2.1.2.1, written as it is there, with 0 and 255 as the ends."""
    out = ((values - (center - 0.5)) / (width - 1) + 0.5) * 255
    out = np.where(values <= center - 0.5 - (width - 1) / 2, 0, out)
    return np.rint(np.where(values > center - 0.5 + (width - 1) / 2, 255, out))


def test_values_are_rescaled_and_seen_through_the_window() -> None:
    window = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 400}
    shown = grey(dicom(CT, bits=12, **window))
    assert (shown == linear(CT.astype(float) - 1024, 40, 400)).all()
    assert len(np.unique(shown)) == 256
    narrow = grey(dicom(CT[:, :4] * 0 + 1064, bits=12, **window))
    assert set(narrow.ravel()) == {128}, "what lies in the middle of the window is grey, whatever else there is"


def test_the_first_of_several_windows_counts() -> None:
    several = grey(dicom(CT, WindowCenter=[100, 2000], WindowWidth=[200, 4000]))
    assert (several == linear(CT.astype(float), 100, 200)).all()


def test_other_shapes_of_window() -> None:
    values = CT.astype(float)
    exact = grey(dicom(CT, WindowCenter=2048, WindowWidth=1024, VOILUTFunction="LINEAR_EXACT"))
    assert (exact == np.rint(np.clip((values - 2048) / 1024 + 0.5, 0, 1) * 255)).all()
    curved = grey(dicom(CT, WindowCenter=2048, WindowWidth=1024, VOILUTFunction="SIGMOID"))
    assert (curved == np.rint(255 / (1 + np.exp(-4 * (values - 2048) / 1024)))).all()


@pytest.mark.parametrize("kind", ["US", "OW"])
def test_a_table_comes_before_a_window(kind: str) -> None:
    table, entries = Dataset(), [0, 65_535, 32_768, 16_384]
    table.add_new("LUTDescriptor", "US", [4, 0, 16])
    table.add_new("LUTData", kind, entries if kind == "US" else np.array(entries, "<u2").tobytes())
    data = dicom(np.array([[0, 1], [2, 3]], np.uint16), WindowCenter=1, WindowWidth=2, VOILUTSequence=[table])
    assert grey(data).tolist() == [[0, 255], [128, 64]]


def test_without_a_window_the_least_is_black_and_the_greatest_white() -> None:
    signed = CT.astype(np.int16) - 2000
    assert (grey(dicom(signed)) == np.rint((CT / 4095) * 255)).all()
    assert not grey(dicom(np.full((4, 4), 9, np.uint16))).any()


def test_one_kind_has_white_as_its_least() -> None:
    assert (grey(dicom(CT, "MONOCHROME1")) == 255 - grey(dicom(CT))).all()
    window = {"WindowCenter": 100, "WindowWidth": 200}
    assert (grey(dicom(CT, "MONOCHROME1", **window)) == 255 - grey(dicom(CT, **window))).all()


def test_of_several_frames_the_first_is_read_with_its_own_window() -> None:
    frames = np.stack([CT, CT[::-1]])
    assert (grey(dicom(frames)) == grey(dicom(CT))).all()
    window, group = Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth = 100, 200
    group.FrameVOILUTSequence = [window]
    for where in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        enhanced = dicom(frames, **{where: [group, Dataset()] if where.startswith("Per") else [group]})
        assert (grey(enhanced) == linear(CT.astype(float), 100, 200)).all()


def test_colours() -> None:
    picture = noise()
    assert (np.asarray(open_image(dicom(np.asarray(picture), "RGB", 8))) == np.asarray(picture)).all()
    luma = np.asarray(picture.convert("YCbCr"))
    shown = np.asarray(open_image(dicom(luma, "RGB", 8, PhotometricInterpretation="YBR_FULL")))
    assert np.abs(shown.astype(int) - np.asarray(picture)).max() <= 4
    palette = {
        f"{colour}PaletteColorLookupTable{part}": value
        for colour, values in {"Red": [0, 65_280], "Green": [65_280, 0], "Blue": [256, 512]}.items()
        for part, value in (("Descriptor", [2, 0, 16]), ("Data", np.array(values, "<u2").tobytes()))
    }
    shown = open_image(dicom(np.array([[0, 1]], np.uint8), "PALETTE COLOR", 8, **palette))
    assert np.asarray(shown).tolist() == [[[0, 255, 1], [255, 0, 2]]]


def compressed(syntax: str, content: bytes) -> bytes:
    data = pydicom.dcmread(io.BytesIO(dicom(np.zeros((16, 16), np.uint8), bits=8)))
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = encapsulate([content])
    data["PixelData"].is_undefined_length = True
    return written(data)


def test_compressed_files_are_read_or_say_what_is_missing() -> None:
    picture = Image.linear_gradient("L").resize((16, 16))
    jpeg = encoded(picture, "JPEG", quality=95)
    wanted = np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)
    shown = grey(compressed(JPEGBaseline8Bit, jpeg)).astype(int)
    spread = np.rint((wanted - wanted.min()) * 255 / (wanted.max() - wanted.min()))
    assert np.abs(shown - spread).max() <= 1
    with pytest.raises(ImageError, match=r"JPEG Lossless.* pip install"):
        open_image(compressed(JPEGLosslessSV1, b"\xff\xd8"))


def test_what_unpacks_to_any_size_is_not_unpacked() -> None:
    data = pydicom.dcmread(io.BytesIO(dicom(CT)))
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    with pytest.raises(ImageError, match="deflated"):
        open_image(written(data))


def test_of_a_long_film_one_frame_is_read(tmp_path: Path) -> None:
    frames = np.zeros((200, 256, 256), np.uint16)
    frames[0, 0, 0] = 1
    (tmp_path / "film").write_bytes(dicom(frames))
    tracemalloc.start()
    try:
        shown = open_image(tmp_path / "film")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.asarray(shown).sum() == 3 * 255
    assert peak < frames.nbytes / 4


def test_it_is_known_by_its_mark_and_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dicom(CT)
    assert looks_like_image(data[:132])
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImageError, match=r"pip install 'fedumm\[dicom\]'"):
        open_image(data)


def without(*names: str) -> bytes:
    data = pydicom.dcmread(io.BytesIO(dicom(CT)))
    for name in names:
        delattr(data, name)
    return written(data)


LARGE = b"US\x02\0\xff\xff"
SIZE = b"US\x02\0\x40\0"
BROKEN = {
    "cut short": dicom(CT)[:3000],
    "nothing but its mark": dicom(CT)[:140],
    "no pixels": without("PixelData"),
    "no size": without("Rows"),
    "no bits": without("BitsStored", "BitsAllocated"),
    "a name for a kind": dicom(CT).replace(b"MONOCHROME2 ", NAME.ljust(12).encode()),
    "noise": b"\0" * 128 + b"DICM" + NAME.encode() * 40,
    "too large": dicom(CT).replace(SIZE, LARGE),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_said_without_the_patient(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(ImageError) as caught:
            open_image(BROKEN[name])
    told = f"{caught.value}{caplog.text}{[str(warning.message) for warning in said]}"
    assert "Doe" not in told
    assert "\n" not in str(caught.value)
    assert ("pixels, more than" in told) == (name == "too large")
