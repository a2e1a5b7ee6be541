"""Modes of pixels: what is hidden is not shown, and colours are the file's."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageCms

from fedumm.images import open_image
from fedumm.images.rgb import to_rgb
from support.pictures import chunk, encoded, png

WHITE, RED = (255, 255, 255), (255, 0, 0)


def colours(data: bytes) -> list[tuple[int, ...]]:
    """The pixels of a row."""
    return [tuple(pixel) for pixel in np.asarray(open_image(data)).reshape(-1, 3).tolist()]


def of_palette(kind: str) -> bytes:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    return encoded(image, kind, transparency=1)


def black_drawing(mode: str) -> Image.Image:
    """A black pixel, one that is half there, and one that is not there at all."""
    image = Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((255, 128, 0)):
        image.putpixel((x, 0), (0, 0, 0, alpha))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_what_is_transparent_lies_on_white(mode: str, kind: str) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert colours(encoded(black_drawing(mode), kind, **options)) == [(0, 0, 0), (127, 127, 127), WHITE]


@pytest.mark.parametrize("mode", ["RGBa", "La", "PA"])
def test_modes_that_few_files_have_lie_on_white_too(mode: str) -> None:
    middle = {"RGBa": "RGBA", "La": "LA", "PA": "P"}[mode]
    image = black_drawing(middle).convert(mode)
    if mode == "PA":
        image.putalpha(black_drawing("RGBA").getchannel("A"))
    assert np.asarray(to_rgb(image)).tolist() == [[[0, 0, 0], [127, 127, 127], [255, 255, 255]]]


CLEAR = {
    "grey": png((2, 1), 8, 0, [b"\x07\xc8"], chunk(b"tRNS", b"\0\x07")),
    "one bit": png((2, 1), 1, 0, [b"\x40"], chunk(b"tRNS", b"\0\0")),
    "colour": png((2, 1), 8, 2, [bytes([1, 2, 3, 4, 5, 6])], chunk(b"tRNS", bytes([0, 1, 0, 2, 0, 3]))),
    "palette": of_palette("PNG"),
    "GIF": of_palette("GIF"),
}
SHOWN = {
    "grey": [WHITE, (200, 200, 200)],
    "one bit": [WHITE, WHITE],
    "colour": [WHITE, (4, 5, 6)],
    "palette": [RED, WHITE],
    "GIF": [RED, WHITE],
}


@pytest.mark.parametrize("name", CLEAR)
def test_a_colour_that_means_transparent_is_white(name: str) -> None:
    assert colours(CLEAR[name]) == SHOWN[name]


def test_a_palette_without_transparency_is_looked_up() -> None:
    image = Image.new("P", (2, 1), 1)
    image.putpalette([1, 2, 3, 9, 8, 7])
    assert colours(encoded(image, "PNG")) == [(9, 8, 7)] * 2


def test_print_colours_become_light() -> None:
    """Also as Adobe writes them in JPEG, turned round."""
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert colours(encoded(ink, "TIFF"))[0] == RED
    assert np.abs(np.array(colours(encoded(ink, "JPEG", quality=100))[0]) - RED).max() < 6


def test_lab_becomes_light() -> None:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    image = ImageCms.profileToProfile(Image.new("RGB", (4, 4), RED), srgb, lab, outputMode="LAB")
    assert image is not None
    assert np.abs(np.array(colours(encoded(image, "TIFF"))[0]) - RED).max() < 8


def test_sixteen_bits_of_colour_lose_the_lower_eight() -> None:
    line = np.array([[0x1234, 0xFFFF, 0x00FF]], ">u2").tobytes()
    assert colours(png((1, 1), 16, 2, [line])) == [(0x12, 0xFF, 0)]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_read(kind: str) -> None:
    frames = [Image.new("RGB", (6, 6), name) for name in ("red", "blue", "lime")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert set(colours(data)) == {RED}
