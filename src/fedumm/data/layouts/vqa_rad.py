"""VQA-RAD as its site gives it.

::

    VQA_RAD Dataset Public.json   [{"qid", "image_name", "question", "answer", "answer_type", "question_type",
    VQA_RAD Image Folder/            "phrase_type", ...}, ...]
        synpic54610.jpg

Questions whose ``phrase_type`` begins with ``test`` are the split ``test``, as in the paper (Lau et al., 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedumm.data.layouts import arrow
from fedumm.data.layouts.errors import LayoutError
from fedumm.data.layouts.json_file import read_json
from fedumm.data.layouts.pictures import PictureFolders
from fedumm.data.layouts.places import check_inside
from fedumm.data.request import DataRequest
from fedumm.data.splits import TEST, TRAIN

if TYPE_CHECKING:
    import pyarrow as pa

_NAMES = ("VQA_RAD Dataset Public.json", "VQA_RAD_Dataset_Public.json")
_PLACES = ("VQA_RAD Image Folder", "VQA_RAD_Image_Folder", "", "images")


def recognise(path: Path) -> bool:
    """Whether the file with its questions is there."""
    return any((path / name).is_file() for name in _NAMES)


def load(path: Path, request: DataRequest) -> Mapping[str, Callable[[], Any]]:
    """What reads each split."""
    file = next(path / name for name in _NAMES if (path / name).is_file())
    check_inside([file], path, request)
    read = cache(partial(_table, file, PictureFolders.of(path, request)))
    return {split: partial(_of_split, read, split) for split in (TRAIN, TEST)}


def _of_split(read: Callable[[], pa.Table], split: str) -> Any:
    import pyarrow.compute as pc

    table = read()
    test = pc.fill_null(pc.starts_with(table["phrase_type"], "test"), False)
    return arrow.dataset(table.filter(test if split == TEST else pc.invert(test)))


def _table(file: Path, folders: PictureFolders) -> pa.Table:
    """Its columns by our names; some texts of the file have spaces around them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = read_json(file)
    if missing := {"image_name", "question", "answer", "phrase_type"} - set(table.column_names):
        raise LayoutError(f"{file.name} lacks {', '.join(sorted(missing))}")
    ours = {"image_name": "image", "qid": "question_id"}
    table = table.rename_columns([ours.get(name.strip(), name.strip()) for name in table.column_names])
    for place, name in enumerate(table.column_names):
        if pa.types.is_string(table[name].type):
            table = table.set_column(place, name, pc.utf8_trim_whitespace(table[name]))
    place = table.column_names.index("image")
    return table.set_column(place, "image", folders.complete(table["image"], _PLACES, TRAIN))
