"""Where the files of a local data set may lie."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fedumm.data.places import Places, check_files
from fedumm.data.request import DataRequest


def folder_places(path: Path, request: DataRequest) -> Places:
    """Those of the data set in the folder ``path``; archives in it are unpacked into the cache of ``datasets``."""
    from datasets import config

    cache = Path(request.cache_dir, "downloads") if request.cache_dir else Path(config.DOWNLOADED_DATASETS_PATH)
    return request.places(path, caches=(cache.expanduser() / "extracted",))


def check_inside(files: Iterable[Path | str], path: Path, request: DataRequest) -> None:
    """Raise :class:`FedummError` if one of the files of the data set in ``path`` is a link that leads elsewhere."""
    check_files(map(str, files), folder_places(path, request), f"--dataset {path}: its list of data files")
