"""Where the rows of a run come from: a source by name, a local folder or a Hub id."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedumm.checkpoints import LONGEST_HUB_ID
from fedumm.data.configurations import split_name
from fedumm.data.places import Places
from fedumm.data.request import DataRequest, DataSplits, Origins, Progress, RowChoice, Source
from fedumm.data.splits import divided
from fedumm.errors import FedummError, did_you_mean
from fedumm.registry import Registry
from fedumm.texts import one_line

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
    from fedumm.data.names import flattened
    from fedumm.data.prepare import prepare

    load, places = _source(name), _places(name, request)
    raw = _plain(load(request), f"--dataset {name}: its source")
    if raw.eval is None and not isinstance(raw.train, RowChoice):
        raw = divided(flattened(raw.train), request, name) or raw
    raw, notes = _with_our_names(raw, request, name)
    splits = prepare(raw, request, places, name, progress, _origins(name, request))
    first, *others = splits.reports
    return replace(splits, reports=(replace(first, notes=(*notes, *first.notes)), *others))


def _plain(given: Any, what: str) -> DataSplits:
    """What a source gave, whose rows are as the table has them, not as ``with_format`` shows them.

    Raises:
        FedummError: it is not what a source gives.
    """
    if not isinstance(given, DataSplits):
        raise FedummError(
            f"{what} returned {_kind(given)} in place of a fedumm.data.DataSplits: return DataSplits(train, "
            "evaluation), or DataSplits(rows, None), of which a share is evaluated on."
        )
    others = None if given.eval is None else _plain_rows(given.eval, f"{what}: the evaluation rows")
    return replace(given, train=_plain_rows(given.train, f"{what}: the training rows"), eval=others)


def _plain_rows(rows: Any, what: str) -> Any:
    from datasets import Dataset

    if isinstance(rows, RowChoice):
        return RowChoice(_plain_rows(rows.table, what), rows.numbers)
    if not isinstance(rows, Dataset):
        raise FedummError(f"{what} are {_kind(rows)} in place of a datasets.Dataset.")
    if rows.format["type"] == "custom":
        raise FedummError(f"{what} have a transform (set_transform), which a run would not see: use Dataset.map.")
    return rows.with_format(None)


def _kind(value: Any) -> str:
    return f"a value of type {type(value).__name__}"


def _with_our_names(raw: DataSplits, request: DataRequest, name: str) -> tuple[DataSplits, list[str]]:
    """Raw rows whose columns have our names, as ``--columns`` says, or where there is no doubt; what was dropped."""
    from fedumm.data.names import flattened, renamed, understood, unread_images, without_rivals

    notes: list[str] = []

    def named(rows: Any, kind: str) -> tuple[Any, dict[str, str]]:
        if isinstance(rows, RowChoice):
            table, names = named(rows.table, kind)
            return RowChoice(table, rows.numbers), names
        rows = flattened(rows)
        names = understood(rows.features, request.column_names, request.columns)
        rows, dropped = without_rivals(renamed(rows, names, f"--dataset {name}, {kind} rows"), request.column_names)
        if request.several_images:
            dropped += [f"the column {one_line(c, 60)} is not read: --columns image_2={c}, if it is an image" for c in
                        unread_images(rows.column_names)]  # fmt: skip
        notes.extend(note for note in dropped if note not in notes)
        return rows, names

    train, columns = named(raw.train, "training")
    others = None if raw.eval is None else named(raw.eval, "evaluation")[0]
    return DataSplits(train, others, {**raw.columns, **columns}), notes


def _origins(name: str, request: DataRequest) -> Origins:
    """Where rows of ``name`` are, if it is a folder or a file."""
    where, configuration = split_name(name)
    path = Path(os.path.expanduser(where))

    def found(kind: str, rows: Sequence[int]) -> Mapping[int, str]:
        from fedumm.data.prepare import EVALUATION
        from fedumm.data.row_origins import row_origins

        if name in available_sources() or not path.exists():
            return {}
        return row_origins(path, request, configuration, kind == EVALUATION, rows)

    return found


_FILES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".tar")
"""How a file of data is called: one that is missing is not looked for on the Hub where its folder is there."""


def _source(name: str) -> Source:
    if name in available_sources():
        return SOURCES.get(name)
    where, configuration = split_name(name)
    path = os.path.expanduser(where)
    if os.path.exists(path):
        from fedumm.data.folder import load_folder

        return lambda request: load_folder(Path(path), request, configuration)
    if not is_hub_id(where):
        raise FedummError(
            f"--dataset {name}: not a folder or a file, not a Hub id (owner/name), and not one of "
            f"{', '.join(available_sources())}.{did_you_mean(name, available_sources())}"
        )
    folder = Path(path).parent
    if folder.is_dir() and Path(path).suffix.lower() in _FILES:
        raise FedummError(f"--dataset {name}: there is no such file in the folder {folder}.")
    return lambda request: _load_hub(where, configuration, request)


def _load_hub(repo_id: str, configuration: str, request: DataRequest) -> DataSplits:
    from fedumm.data.hub import load_hub
    from fedumm.data.hub_join import joined_configurations, load_joined

    names = joined_configurations(repo_id, configuration, request.cache_dir) if configuration else {}
    return load_joined(repo_id, names, request) if names else load_hub(repo_id, request, configuration)


def is_hub_id(name: str) -> bool:
    """Whether ``name``, which is nothing on this machine, may be a data set on the Hub."""
    return not name.startswith((".", "/", "~")) and name.count("/") == 1 and len(name) <= LONGEST_HUB_ID


def _places(name: str, request: DataRequest) -> Places:
    """Where the files that rows of ``name`` call their images may lie."""
    of_vqav2 = name == "vqav2" and SOURCES.is_shipped(name)
    if name in available_sources() and not of_vqav2:
        return request.places()
    where, _ = split_name(name)
    path = Path(os.path.expanduser(where))
    if not of_vqav2 and path.exists():
        from fedumm.data.layouts.places import folder_places

        return folder_places(path if path.is_dir() else path.parent, request)
    from fedumm.data import vqav2
    from fedumm.data.hub import hub_places

    return hub_places((vqav2.TRAIN, vqav2.EVAL) if of_vqav2 else (where,), request)
