"""Files that ``datasets`` reads into Arrow files in its cache, and the configurations of a folder's data card.

::

    README.md                       configs: [{config_name: all, data_files: [{split: train, path: a/*.parquet}]}, ...]
    train-00000-of-00002.parquet    Parquet
    train-000000.tar  val.tar       WebDataset: 0001.jpg, 0001.txt or 0001.json with the same key, read as a stream
    train/cats/1.png                folders of images

The cache knows a file by its name and time, so one that was changed is read anew. In the folder nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from fedumm.data.configurations import pick_configuration
from fedumm.data.layouts import tables
from fedumm.data.layouts.places import check_inside, folder_places
from fedumm.data.places import check_card, is_address
from fedumm.data.request import DataRequest

FORMATS = {".parquet": "parquet", ".tar": "webdataset"}
"""Readers of ``datasets`` for a single file, by its ending."""


def has_configurations(path: Path) -> bool:
    """Whether the folder's data card says which files are which split."""
    return any(isinstance(card, dict) and card.get("configs") for card in _cards(path))


def load(path: Path, request: DataRequest, configuration: str = "") -> Mapping[str, Callable[[], Any]]:
    """What ``datasets`` finds in the folder; its card could name any file and any address.

    Raises:
        FedummError: the files lie elsewhere, or there are several configurations and none is named.
    """
    from datasets import load_dataset_builder

    places, what = folder_places(path, request), f"--dataset {path}"
    for card in _cards(path):
        check_card(card, places, what)
    name = pick_configuration(next(_cards(path), None), configuration, str(path))
    builder = load_dataset_builder(str(path), name, cache_dir=request.cache_dir or None)
    return _splits(builder, path, request)


def load_file(file: Path, request: DataRequest) -> Mapping[str, Callable[[], Any]]:
    """One file, which is one split."""
    from datasets import load_dataset_builder

    reader = FORMATS[file.suffix.lower()]
    builder = load_dataset_builder(reader, data_files=str(file), cache_dir=request.cache_dir or None)
    return _splits(builder, file.parent, request)


def _splits(builder: Any, path: Path, request: DataRequest) -> Mapping[str, Callable[[], Any]]:
    splits = builder.config.data_files or {}
    for files in splits.values():
        check_inside(files, path, request)
    if type(builder.config).__name__ == "CsvConfig" and not any(is_address(file) for file in chain(*splits.values())):
        # Which answers 'datasets' would change: see csv_file.
        return {
            str(split): partial(tables.rows, [Path(file) for file in files], path, str(split), request)
            for split, files in splits.items()
        }
    builder.download_and_prepare()
    found = builder.as_dataset()
    return {split: partial(found.get, split) for split in found}


def _cards(path: Path) -> Iterator[Any]:
    """What the folder says of itself in the two places where ``datasets`` reads it."""
    import yaml
    from huggingface_hub import metadata_load

    if (path / "README.md").is_file():
        yield metadata_load(path / "README.md")
    if (path / ".huggingface.yaml").is_file():
        yield yaml.safe_load((path / ".huggingface.yaml").read_text(encoding="utf-8"))
