"""Where the files of a local data set may lie."""

from __future__ import annotations

from pathlib import Path

from fedumm.data.places import Places
from fedumm.data.request import DataRequest


def folder_places(path: Path, request: DataRequest) -> Places:
    """Those of the data set in the folder ``path``; archives in it are unpacked into the cache of ``datasets``."""
    from datasets import config

    cache = Path(request.cache_dir, "downloads") if request.cache_dir else Path(config.DOWNLOADED_DATASETS_PATH)
    return request.places(path, caches=(cache.expanduser() / "extracted",))
