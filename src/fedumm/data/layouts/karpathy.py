"""Karpathy's splits of COCO, Flickr30k and Flickr8k.

::

    dataset_coco.json         {"images": [{"filepath": "val2014", "filename", "imgid", "cocoid", "split",
    dataset_flickr30k.json                 "sentences": [{"raw", "tokens", ...}, ...]}, ...]}
    val2014/COCO_val2014_000000391895.jpg
    flickr30k-images/1000092795.jpg

The splits are ``train`` with ``restval``, as is usual, ``val`` and ``test``. A row is an image with all its captions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedumm.data.layouts import arrow
from fedumm.data.layouts.errors import LayoutError
from fedumm.data.layouts.json_stream import elements
from fedumm.data.layouts.pictures import PictureFolders
from fedumm.data.layouts.places import check_inside
from fedumm.data.request import DataRequest
from fedumm.data.splits import TEST, TRAIN, VALIDATION, split_kind

if TYPE_CHECKING:
    import pyarrow as pa

_NAMES = ("dataset_coco.json", "dataset_flickr30k.json", "dataset_flickr8k.json")
_PLACES = ("", "images", "flickr30k-images", "flickr30k_images", "Images", "Flicker8k_Dataset")


def recognise(path: Path) -> bool:
    """Whether there is one of these files."""
    return any((path / name).is_file() for name in _NAMES)


def load(path: Path, request: DataRequest) -> Mapping[str, Callable[[], Any]]:
    """What reads each split.

    Raises:
        LayoutError: there are several of these files.
    """
    files = [path / name for name in _NAMES if (path / name).is_file()]
    if len(files) > 1:
        raise LayoutError(f"{' and '.join(file.name for file in files)} are there: keep one of them")
    check_inside(files, path, request)
    read = cache(partial(_table, files[0], PictureFolders.of(path, request)))
    return {split: partial(_of_split, read, split, files[0].name) for split in (TRAIN, VALIDATION, TEST)}


def _of_split(read: Callable[[], pa.Table], split: str, file: str) -> Any:
    import pyarrow.compute as pc

    table = read()
    table = table.filter(pc.equal(table["split"], split))
    if not table.num_rows:
        raise LayoutError(f"{file} has no images of the split {split}")
    return arrow.dataset(table)


def _table(file: Path, folders: PictureFolders) -> pa.Table:
    try:
        table = arrow.table_of(_images(file))
    except (KeyError, TypeError) as error:
        raise LayoutError(f"{file.name}: an image lacks {error}") from error
    if not table.num_rows:
        raise LayoutError(f"{file.name} has no images")
    place = table.column_names.index("image")
    return table.set_column(place, "image", folders.complete(table["image"], _PLACES, ""))


def _images(file: Path) -> Iterator[dict[str, Any]]:
    for key, image, _ in elements(file):
        if key == "images":
            yield {
                "image": "/".join(filter(None, [image.get("filepath"), image["filename"]])),
                "image_id": image.get("cocoid", image.get("imgid", image["filename"])),
                "captions": [sentence["raw"] for sentence in image["sentences"]],
                "split": split_kind(image["split"]),
            }
