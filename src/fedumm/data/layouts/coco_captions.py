"""COCO's captions as its site gives them.

::

    captions_train2017.json   {"images": [{"id", "file_name", ...}, ...],
    captions_val2017.json      "annotations": [{"image_id", "id", "caption"}, ...]}
    train2017/000000000009.jpg
    val2017/000000000139.jpg

The JSON files lie in the folder or in ``annotations/``, the pictures in the folder or below ``--image_root``. A row is
an image with all its captions; an image without any is no row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fedumm.data.layouts import arrow
from fedumm.data.layouts.errors import LayoutError
from fedumm.data.layouts.json_stream import elements
from fedumm.data.layouts.pictures import PictureFolders
from fedumm.data.layouts.places import check_inside
from fedumm.data.request import DataRequest
from fedumm.data.splits import split_kind

_NAME = re.compile(r"captions_([a-z]+\d{4})\.json")


def recognise(path: Path) -> bool:
    """Whether there are captions under their official names."""
    return bool(_splits(path))


def load(path: Path, request: DataRequest) -> Mapping[str, Callable[[], Any]]:
    """What reads each split."""
    folders, splits = PictureFolders.of(path, request), _splits(path)
    check_inside(splits.values(), path, request)
    return {split_kind(subset): partial(_rows, file, subset, folders) for subset, file in splits.items()}


def _splits(path: Path) -> dict[str, Path]:
    """Files by subset, such as ``train2017``.

    Raises:
        LayoutError: there are those of two years.
    """
    files = [file for folder in ("", "annotations") for file in sorted((path / folder).glob("captions_*.json"))]
    found = {match[1]: file for file in files if (match := _NAME.fullmatch(file.name))}
    if len({split_kind(subset) for subset in found}) < len(found):
        raise LayoutError(f"{', '.join(file.name for file in found.values())} are there: keep those of one year")
    return found


def _rows(file: Path, subset: str, folders: PictureFolders) -> Any:
    names: dict[int, str] = {}
    captions: dict[int, list[str]] = {}
    try:
        for key, value, _ in elements(file):
            if key == "images":
                names[value["id"]] = value["file_name"]
            elif key == "annotations":
                captions.setdefault(value["image_id"], []).append(value["caption"])
    except (KeyError, TypeError) as error:
        raise LayoutError(f"{file.name}: an image or a caption lacks {error}") from error
    if missing := captions.keys() - names.keys():
        raise LayoutError(f"{file.name} has captions of {len(missing):,} images that it does not list")
    table = arrow.table_of(_images(names, captions))
    if not table.num_rows:
        raise LayoutError(f"{file.name} has no captions")
    places = [subset, f"images/{subset}", f"coco/{subset}", "images"]
    place = table.column_names.index("image")
    return arrow.dataset(table.set_column(place, "image", folders.complete(table["image"], places, subset, subset)))


def _images(names: Mapping[int, str], captions: Mapping[int, list[str]]) -> Iterator[dict[str, Any]]:
    for ident, name in names.items():
        if ident in captions:
            yield {"image": name, "image_id": ident, "captions": captions[ident]}
