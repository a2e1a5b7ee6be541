"""Flickr30k's captions as its site, or Kaggle's copy, gives them; Flickr8k's token file.

::

    results.csv             image_name| comment_number| comment
                            1000092795.jpg| 0| Two young guys with shaggy hair look at their hands .
    results_20130124.token  1000092795.jpg#0<tab>Two young guys with shaggy hair look at their hands .
    flickr30k_images/1000092795.jpg

A row is an image with all its captions. There is one split. Quotes and commas are part of a caption, and a bar that is
missing after the number, as in one line of Kaggle's file, is not missed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fedumm.data.layouts import arrow
from fedumm.data.layouts.errors import LayoutError, not_utf8
from fedumm.data.layouts.pictures import PictureFolders
from fedumm.data.layouts.places import check_inside
from fedumm.data.request import DataRequest
from fedumm.data.splits import TRAIN

_BARS = re.compile(r"\s*([^|]+?)\s*\|\s*\d+\s*\|?\s*(.*?)\s*")
_TOKEN = re.compile(r"([^#\t]+)#\d+\t\s*(.*?)\s*")
_PLACES = ("", "flickr30k_images", "flickr30k-images", "flickr30k_images/flickr30k_images", "images", "Images")


def recognise(path: Path) -> bool:
    """Whether there is such a file."""
    return _file(path) is not None


def load(path: Path, request: DataRequest) -> Mapping[str, Callable[[], Any]]:
    """What reads the one split."""
    file = _file(path)
    assert file is not None
    check_inside([file], path, request)
    return {TRAIN: partial(_rows, file, PictureFolders.of(path, request))}


def _file(path: Path) -> Path | None:
    """The file of captions, in the folder or beside the pictures in one of its folders."""
    for folder in (path, *(path / name for name in ("flickr30k_images", "annotations"))):
        tokens = [*folder.glob("*.token"), *folder.glob("*.token.txt")]
        for file in (*sorted(tokens), folder / "results.csv"):
            if file.is_file() and (file.name != "results.csv" or _has_bars(file)):
                return file
    return None


def _has_bars(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(64).replace(b" ", b"").startswith(b"image_name|comment_number|comment")


def _rows(file: Path, folders: PictureFolders) -> Any:
    captions: dict[str, list[str]] = {}
    try:
        for image, caption in _lines(file):
            captions.setdefault(image, []).append(caption)
    except UnicodeDecodeError as error:
        raise not_utf8(file) from error
    if not captions:
        raise LayoutError(f"{file.name} has no captions")
    table = arrow.table_of({"image": name, "image_id": name, "captions": texts} for name, texts in captions.items())
    place = table.column_names.index("image")
    return arrow.dataset(table.set_column(place, "image", folders.complete(table["image"], _PLACES, TRAIN)))


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    form = _BARS if file.name == "results.csv" else _TOKEN
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            match = form.fullmatch(line.rstrip("\n"))
            if match:
                yield match[1], match[2]
            elif line.strip() and not (number == 1 and form is _BARS):
                raise LayoutError(f"{file.name}, line {number}: no image, number and caption")
