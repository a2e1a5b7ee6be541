"""Greys of more than eight bits: nothing clipped, whatever part of its type an image uses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from fedumm.images import open_image
from fedumm.images.grey import to_grey
from support.pictures import chunk, encoded, png, tiff

Array = np.ndarray[Any, Any]
RAMP = np.arange(4096).reshape(64, 64)
"""Of 12 bits, so each of the 256 greys has 16 values of its own, or 8 at the ends."""
WANTED = np.floor(RAMP * 255 / 4095 + 0.5).astype(np.uint8)


def read(data: bytes) -> Array:
    """The grey values of an image that has no colours."""
    pixels = np.asarray(open_image(data))
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


FILES = {
    "16-bit PNG": encoded(Image.fromarray((RAMP * 16).astype(np.uint16))),
    "16-bit PNG of which 12 bits are used": encoded(Image.fromarray(RAMP.astype(np.uint16))),
    "16-bit JPEG 2000": encoded(Image.fromarray(RAMP.astype(np.uint16)), "JPEG2000"),
    "16-bit PGM": b"P5 64 64 4095\n" + RAMP.astype(">u2").tobytes(),
    "PFM": b"Pf\n64 64\n-1\n" + RAMP[::-1].astype("<f4").tobytes(),
    **{f"TIFF {kind}": tiff(RAMP.astype(kind)) for kind in ("<u2", ">u2", "<i4", ">i4", "<f4", ">f4")},
    **{f"signed TIFF {kind}": tiff((RAMP - 1000).astype(kind)) for kind in ("<i2", ">i2", "<i4")},
    "TIFF of large numbers without a sign": tiff((RAMP * 1_048_576).astype("<u4")),
    "float TIFF, 0 to 1": tiff((RAMP / 4095).astype("<f4")),
    "float TIFF, tiny numbers": tiff((RAMP * 1e-30).astype("<f4")),
    "white is zero": tiff(RAMP[::-1, ::-1].astype("<u2"), white_is_zero=True),
}


@pytest.mark.parametrize("name", FILES)
def test_a_ramp_keeps_all_its_greys(name: str) -> None:
    grey = read(FILES[name])
    assert (abs(grey.astype(int) - WANTED) <= 1).all(), "of float32, a value may be rounded the other way"
    assert len(np.unique(grey)) == 256
    assert (grey == 255).mean() < 0.01
    assert (grey == 0).mean() < 0.01


def test_eight_bits_in_sixteen_keep_their_order_and_number() -> None:
    eight = np.random.default_rng(0).integers(30, 200, (32, 32))
    grey = read(encoded(Image.fromarray(eight.astype(np.uint16))))
    assert len(np.unique(grey)) == len(np.unique(eight))
    assert (np.argsort(grey.ravel(), kind="stable") == np.argsort(eight.ravel(), kind="stable")).all()


@pytest.mark.parametrize("value", [0, 1, 40_000, 65_535])
def test_an_image_of_one_value_is_black(value: int) -> None:
    assert not read(encoded(Image.fromarray(np.full((5, 4), value, np.uint16)))).any()


def test_what_is_no_number_does_not_count() -> None:
    values = RAMP.astype(np.float32)
    values[0, 5:8] = np.nan, np.inf, -np.inf
    grey = read(tiff(values))
    assert grey[0, 5:8].tolist() == [0, 255, 0]
    assert (grey[1:] == to_grey(RAMP)[1:]).all()
    assert not read(tiff(np.full((4, 4), np.nan, np.float32))).any()


def test_a_transparent_value_is_white_and_does_not_count() -> None:
    values = RAMP.copy()
    values[0, 0] = 65_535
    lines = [line.astype(">u2").tobytes() for line in values]
    grey = read(png((64, 64), 16, 0, lines, chunk(b"tRNS", b"\xff\xff")))
    assert grey[0, 0] == 255
    assert (grey.ravel()[1:] == to_grey(RAMP.ravel()[1:])).all()


@pytest.mark.parametrize("turn", [3, 6, 8])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_wide_grey_is_turned_too(kind: str, turn: int) -> None:
    exif = Image.Exif()
    exif[Image.ExifTags.Base.Orientation] = turn
    grey = read(encoded(Image.fromarray(RAMP[:, :32].astype(np.uint16)), kind, exif=exif))
    turned = np.rot90(to_grey(RAMP[:, :32]), {3: 2, 6: -1, 8: 1}[turn])
    assert (grey == turned).all()


NUMBERS = st.one_of(
    arrays(np.int32, st.integers(1, 50)),
    arrays(np.uint16, st.integers(1, 50)),
    arrays(np.float32, st.integers(1, 50), elements=st.floats(-(2.0**99), 2.0**99, width=32)),
)


@given(NUMBERS)
def test_order_is_kept_and_both_ends_are_reached(values: Array) -> None:
    grey = to_grey(values)
    assert (np.diff(grey[np.argsort(values, kind="stable")].astype(int)) >= 0).all()
    assert grey[values.argmin()] == 0
    assert grey[values.argmax()] == (0 if values.min() == values.max() else 255)
