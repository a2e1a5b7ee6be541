"""How data sets lie in a folder or a file, as they come from their sites.

A layout is a module with ``recognise(path)`` and ``load(path, request)``, which returns what reads each split: raw
rows, whose pictures are names of files relative to the folder or to one of ``--image_root``. They are asked in the
order of :data:`LAYOUTS`; what none of them knows, ``datasets`` may.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedumm.data.layouts import coco_captions, files, flickr30k, karpathy, saved, tables, vqa_rad, vqa_v2
from fedumm.data.layouts.errors import LayoutError
from fedumm.data.request import DataRequest

Splits = Mapping[str, Callable[[], Any]]
Load = Callable[[Path, DataRequest], Splits]

LAYOUTS = (vqa_v2, karpathy, coco_captions, flickr30k, vqa_rad, tables)
"""The first that recognises a folder reads it."""


def splits_of(path: Path, request: DataRequest, configuration: str = "") -> Splits:
    """What reads each split of the folder or file ``path``.

    Raises:
        LayoutError: no layout has such a file, or a file is not as its layout has it.
        FedummError: files lie where they may not.
    """
    if path.is_file():
        return _of_file(path, request)
    if saved.recognise(path):
        return saved.load(path, request)
    if configuration or files.has_configurations(path):
        return files.load(path, request, configuration)
    load: Load = next((layout.load for layout in LAYOUTS if layout.recognise(path)), files.load)
    return load(path, request)


def _of_file(file: Path, request: DataRequest) -> Splits:
    ending = file.suffix.lower()
    if tables.is_table(file):
        return tables.load_file(file, request)
    if ending in files.FORMATS:
        return files.load_file(file, request)
    known = dict.fromkeys([*tables.READERS, *files.FORMATS])
    raise LayoutError(f"its ending is none of {', '.join(known)}")
