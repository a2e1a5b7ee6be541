"""Where the rows of a run come from: a source by name, a local folder or a Hub id."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fedumm.checkpoints import LONGEST_HUB_ID
from fedumm.data.places import Places
from fedumm.data.request import DataRequest, DataSplits, Progress, Source
from fedumm.errors import FedummError, did_you_mean
from fedumm.registry import Registry

SHIPPED = {
    "easy_vqa": "fedumm.data.easy_vqa",
    "shapes": "fedumm.data.shapes.source",
    "vqav2": "fedumm.data.vqav2",
}


def _checked(name: str, source: Any) -> Source:
    if not callable(source):
        raise FedummError(f"Source {name!r} is no function of a DataRequest.")
    return source  # type: ignore[no-any-return]


SOURCES: Registry[Source] = Registry("source", "fedumm.sources", SHIPPED, lambda module, _: module.load, _checked)

register_source = SOURCES.register
"""``@register_source(name)`` above a :data:`~fedumm.data.request.Source`, or
``register_source(name, source)``: known as ``--dataset name``."""

available_sources = SOURCES.names
"""Names that :func:`load_data` knows, sorted; folders and Hub ids come on top."""


def load_data(name: str, request: DataRequest, progress: Progress | None = None) -> DataSplits:
    """Rows of the source, folder or Hub data set ``name``.

    Raises:
        FedummError: no such data set, it can't be reached, a column is missing, no row is left, or a row's image is a
            file that is not there or may not be read.
    """
    from fedumm.data.prepare import prepare

    load, places = _source(name), _places(name, request)
    return prepare(load(request), request, places, name, progress)


def _source(name: str) -> Source:
    if name in available_sources():
        return SOURCES.get(name)
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        from fedumm.data.folder import load_folder

        return lambda request: load_folder(Path(path), request)
    if name.startswith((".", "/", "~")) or name.count("/") != 1 or len(name) > LONGEST_HUB_ID:
        raise FedummError(
            f"--dataset {name}: not a folder, not a Hub id (owner/name), and not one of "
            f"{', '.join(available_sources())}.{did_you_mean(name, available_sources())}"
        )
    from fedumm.data.hub import load_hub

    return lambda request: load_hub(name, request)


def _places(name: str, request: DataRequest) -> Places:
    """Where the files that rows of ``name`` call their images may lie."""
    path = Path(os.path.expanduser(name))
    of_vqav2 = name == "vqav2" and SOURCES.is_shipped(name)
    if name in available_sources() and not of_vqav2:
        return request.places()
    if not of_vqav2 and os.path.isdir(path):
        from fedumm.data.folder import folder_places

        return folder_places(path, request)
    from fedumm.data import vqav2
    from fedumm.data.hub import hub_places

    return hub_places((vqav2.TRAIN, vqav2.EVAL) if of_vqav2 else (name,), request)
