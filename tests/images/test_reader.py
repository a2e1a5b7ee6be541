"""Pictures that anybody may have made: the same as Pillow reads them, or one sentence."""

from __future__ import annotations

import io
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features
from datasets import Image as ImageColumn
from PIL import Image, ImageOps

from fedumm.cli.main import main
from fedumm.data import read_image
from fedumm.errors import FedummError
from fedumm.generation.folder import DrawnFolder
from fedumm.images import FORMATS, MOST_PIXELS, ImageError, open_image

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side: int) -> bytes:
    """A few bytes that stand for ``side`` x ``side`` black pixels."""
    packer = zlib.compressobj(9)
    line = bytes(1 + (side + 7) // 8)
    data = b"".join(packer.compress(line) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    packed = zlib.compress(bytes(80_000_000))
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"zTXt", b"a\0\0" + packed) + chunk(b"IEND", b"")


BAD = {
    "EPS": EPS,
    "a bomb": bomb(14_000),
    "a text bomb": text_bomb(),
    "empty": b"",
    "text": b"no image" * 99,
    "cut short": bomb(64)[:-30],
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "PDF": b"%PDF-1.4\n",
    "ICNS": b"icns" + bytes(40),
}


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1", "LA", "CMYK"])
@pytest.mark.parametrize("kind", FORMATS)
def test_every_kind_is_read_as_pillow_does(kind: str, mode: str, tmp_path: Path) -> None:
    Image.init()
    noise = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    file = tmp_path / "picture"
    try:
        Image.fromarray(noise).convert(mode).save(file, kind)
    except (KeyError, OSError, ValueError):
        pytest.skip("is not written")
    with Image.open(file) as plain:
        wanted = plain.convert("RGB")
    for source in (file, str(file), file.read_bytes()):
        assert open_image(source).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_camera_that_was_held_otherwise_is_heeded(turn: int, tmp_path: Path) -> None:
    picture = Image.effect_noise((13, 9), 50).convert("RGB")
    exif = Image.Exif()
    exif[Image.ExifTags.Base.Orientation] = turn
    picture.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as plain:
        assert open_image(tmp_path / "a.png").tobytes() == ImageOps.exif_transpose(plain).tobytes()


def test_a_data_sets_pictures_are_those_that_datasets_decodes(tmp_path: Path) -> None:
    sources: list[dict[str, object]] = []
    for number, (kind, mode) in enumerate([("PNG", "P"), ("JPEG", "L"), ("WEBP", "RGB"), ("TIFF", "CMYK")]):
        file = tmp_path / f"{number}.{kind}"
        Image.effect_noise((8, 5 + number), 60).convert(mode).save(file, kind)
        sources += [{"bytes": file.read_bytes(), "path": None}, {"bytes": None, "path": str(file)}]
    for column in (ImageColumn(), ImageColumn(mode="L")):
        rows = Dataset.from_dict({"image": sources}, features=Features({"image": column})).select([7, 6, 3, 2, 1, 0])
        for row in range(len(rows)):
            assert read_image(rows, row).tobytes() == rows[row]["image"].convert("RGB").tobytes()


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_what_is_no_picture_is_one_sentence_and_starts_no_program(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", started)
    file = tmp_path / "bad.png"
    file.write_bytes(content)
    with pytest.raises(ImageError):
        open_image(file)
    assert main(["ask", str(file), "what?", "--model_backend", "blip_vqa", "--model_name_or_path", "tiny"]) == 2
    out, error = capsys.readouterr()
    assert not out
    assert error.startswith(f"fedumm ask: {file} can't be read as an image: ")
    assert error.count("\n") == 1
    for stored in ({"bytes": content, "path": None}, {"bytes": None, "path": str(file)}):
        rows = Dataset.from_dict({"image": [stored]}, features=Features({"image": ImageColumn()}))
        with pytest.raises(FedummError, match="The image of row 0 can't be read"):
            read_image(rows, 0)


def test_a_large_picture_that_is_no_bomb_is_read_without_a_word() -> None:
    side = 9_600
    assert side * side > Image.MAX_IMAGE_PIXELS  # type: ignore[operator]
    assert side * side < MOST_PIXELS
    assert open_image(bomb(side)).size == (side, side)


def test_what_was_drawn_and_is_broken_is_drawn_again(tmp_path: Path) -> None:
    prompts = [{"tag": "single_object", "prompt": "a circle", "include": [{"class": "circle", "count": 1}]}]
    folder = DrawnFolder(tmp_path, prompts, 2, {})
    for number, content in enumerate([EPS, bomb(14_000)]):
        folder.samples[number].path(tmp_path).write_bytes(content)
    red = Image.new("RGB", (8, 8), "red")
    assert folder.draw(lambda captions, seeds: [red] * len(captions), 0, lambda *_: None) == 2
    for sample in folder.samples:
        sample.path(tmp_path).write_bytes(io.BytesIO(EPS).getvalue())
    with pytest.raises(FedummError, match="Delete it, and it is drawn again"):
        folder.judge(None, lambda *_: None)  # type: ignore[arg-type]
