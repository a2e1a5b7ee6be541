"""Pictures that anybody may have made: of eight bits as Pillow reads them, or one sentence."""

from __future__ import annotations

import io
import struct
import subprocess
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features
from datasets import Image as ImageColumn
from PIL import Image, ImageOps

from fedumm.cli.main import main
from fedumm.data import read_image
from fedumm.data.pictures import with_pictures
from fedumm.data.places import Places
from fedumm.errors import FedummError
from fedumm.generation.folder import DrawnFolder
from fedumm.images import FORMATS, MOST_PIXELS, ImageError, looks_like_image, open_image
from support.dicom import dicom
from support.pictures import bomb, chunk, encoded, noise, tiff

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


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
    data = file.read_bytes()
    for source in (file, str(file), data, bytearray(data), memoryview(data)):
        assert open_image(source).tobytes() == wanted.tobytes()
    assert looks_like_image(data[:132])


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


def test_threads_read_alike_and_leave_warnings_as_they_were() -> None:
    contents = [encoded(noise(seed=seed)) for seed in range(64)]
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(open_image, contents))
    assert [image.tobytes() for image in read] == [noise(seed=seed).tobytes() for seed in range(64)]
    assert warnings.filters == before


def test_what_a_camera_wrote_wrongly_beside_the_picture_does_not_matter() -> None:
    """Pillow warns of it, which is an error where warnings are."""
    torn = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03"
    data = encoded(noise(), "JPEG", exif=torn)
    assert open_image(data).tobytes() == open_image(encoded(noise(), "JPEG")).tobytes()


TURNED = Image.Exif()
TURNED[Image.ExifTags.Base.Orientation] = 6
KINDS = {
    "PNG": encoded(noise()),
    "JPEG of a camera": encoded(noise(), "JPEG", exif=TURNED),
    "16 bits": encoded(Image.fromarray(np.arange(99, dtype=np.uint16).reshape(9, 11) * 40)),
    "float": tiff(np.linspace(0, 1, 99, dtype="<f4").reshape(9, 11)),
    "transparent": encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 80))),
    "palette": encoded(noise().convert("P"), "GIF"),
    "print colours": encoded(noise().convert("CMYK"), "JPEG"),
    "DICOM": dicom(np.arange(99, dtype=np.uint16).reshape(9, 11), WindowCenter=40, WindowWidth=60),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_question_is_about_the_picture_that_is_trained_on(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def answer(self: object, model: object, processor: object, image: Image.Image, *_: object) -> str:
        asked.append(image)
        return "yes"

    monkeypatch.setattr("fedumm.backends.blip_vqa.backend.BlipVqaBackend.answer", answer)
    (tmp_path / "a").write_bytes(KINDS[name])
    assert (
        main(["ask", str(tmp_path / "a"), "what?", "--model_backend", "blip_vqa", "--model_name_or_path", "tiny"]) == 0
    )
    raw = Dataset.from_dict({"image": [{"bytes": KINDS[name], "path": None}, {"bytes": None, "path": "a"}]})
    rows, bad = with_pictures(raw, Places(tmp_path), "x")
    assert not bad
    for row in range(2):
        for picture in (read_image(rows, row), rows[row]["image"]):
            assert (picture.mode, picture.size) == ("RGB", asked[0].size)
            assert picture.tobytes() == asked[0].tobytes()


@pytest.mark.parametrize("backend", ["blip_vqa", "januspro"])
def test_a_question_that_is_too_long_is_one_line(
    backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise().save(tmp_path / "a.png")
    words = ["--model_backend", backend, "--model_name_or_path", "tiny"]
    assert main(["ask", str(tmp_path / "a.png"), "why " * 4000, *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fedumm ask: The question")
    assert error.count("\n") == 1
