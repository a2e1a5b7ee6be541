"""A folder with tables, each a split, and pictures beside them; or one table as ``--dataset FILE``.

::

    train.csv  val.csv  images/1.png       image,question,answer
    data.csv  1.png                        a column split, or one split
    train/metadata.jsonl  train/1.png      file_name, question, answer (the image folders of ``datasets``)
    metadata.csv  train/1.png  test/2.png  file_name is train/1.png: the folder is the split
    train.json  validate.json  imgs/       SLAKE, VizWiz: a list of objects

Tables are CSV, TSV, JSON, JSON lines or Parquet. Parquet with pictures in it is read by ``datasets``
(:mod:`fedumm.data.layouts.files`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedumm.config.columns import further_images
from fedumm.data.layouts import arrow
from fedumm.data.layouts.csv_file import csv_columns, read_csv
from fedumm.data.layouts.errors import LayoutError
from fedumm.data.layouts.json_file import json_columns, read_json
from fedumm.data.layouts.json_stream import LINES
from fedumm.data.layouts.parquet_file import has_pictures, parquet_columns, read_parquet
from fedumm.data.layouts.pictures import PictureFolders
from fedumm.data.layouts.places import check_inside
from fedumm.data.names import understood
from fedumm.data.request import DataRequest
from fedumm.data.splits import TRAIN, split_kind
from fedumm.texts import one_line

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET = ".parquet"
READERS: dict[str, Callable[[Path], Any]] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".json": read_json,
    **dict.fromkeys(LINES, read_json),
    PARQUET: read_parquet,
}
"""By the ending of a file's name."""

_NO_TABLES = (
    "dataset_infos.json",
    "dataset_dict.json",
    "dataset_info.json",
    "state.json",
    "package.json",
    "config.json",
)
PICTURE_FOLDERS = ("images", "imgs", "image", "img")


def recognise(path: Path) -> bool:
    """Whether there are such tables."""
    return bool(_tables(path))


def load(path: Path, request: DataRequest) -> Mapping[str, Callable[[], Any]]:
    """What reads each split.

    Raises:
        LayoutError: the tables are of several kinds, or there are others like those that are read.
    """
    by_split: dict[str, list[Path]] = {}
    tables = _tables(path)
    check_inside(_all(path), path, request)
    _check_left_out(tables, [file for file in _all(path) if file not in tables])
    for file in tables:
        by_split.setdefault(_kind(file, path) or TRAIN, []).append(file)
    return {split: partial(rows, files, path, _kind(files[0], path), request) for split, files in by_split.items()}


def load_file(file: Path, request: DataRequest) -> Mapping[str, Callable[[], Any]]:
    """What reads the table ``file``, which is one split."""
    return {TRAIN: partial(rows, [file], file.parent, split_kind(file.stem), request)}


def _tables(path: Path) -> list[Path]:
    """Tables in the folder itself, else in its folders; ``metadata`` before others, and splits before what is none.

    Raises:
        LayoutError: they are of several kinds.
    """
    files = _all(path)
    files = [file for file in files if file.stem.lower() == "metadata"] or files
    files = [file for file in files if split_kind(file.relative_to(path).as_posix())] or files
    if len({file.suffix.lower() for file in files} - set(LINES)) > 1:
        names = ", ".join(one_line(file.name, 60) for file in files[:6])
        raise LayoutError(f"it holds tables of several kinds ({names}): give one of them as --dataset FILE")
    return files


def _all(path: Path) -> list[Path]:
    return _files(path) or [file for folder in sorted(path.iterdir()) if folder.is_dir() for file in _files(folder)]


def _check_left_out(read: Sequence[Path], others: Sequence[Path]) -> None:
    """Raise :class:`LayoutError` if one of ``others`` has the columns of what is read: its rows would be missed."""
    if not others:
        return
    known = [columns for file in read if (columns := _columns(file))]
    for file in others:
        columns = _columns(file)
        if any(some <= columns for some in known):
            raise LayoutError(
                f"{one_line(read[0].name, 60)} would be read, and {one_line(file.name, 60)}, which has its columns, "
                "would not: give one of them as --dataset FILE, or call them train and test"
            )


def _columns(file: Path) -> set[str]:
    """The names of a table's columns; none if it can't be read."""
    ending = file.suffix.lower()
    names = {PARQUET: parquet_columns, ".csv": csv_columns, ".tsv": csv_columns}.get(ending, json_columns)
    try:
        return set(names(file))
    except LayoutError:
        return set()


def _files(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.name not in _NO_TABLES and file.name[0] != "." and file.is_file() and is_table(file)
    )


def is_table(file: Path) -> bool:
    """Whether ``file`` is read here."""
    ending = file.suffix.lower()
    return ending in READERS and not (ending == PARQUET and has_pictures(file))


def _kind(file: Path, path: Path) -> str:
    """The split that ``file`` is by its name or its folder's; empty: none."""
    return split_kind(file.stem) or split_kind(file.parent.relative_to(path).as_posix())


def rows(files: Sequence[Path], path: Path, split: str, request: DataRequest) -> Any:
    """Rows of ``files``, tables of one split of the data set in ``path``.

    Args:
        split: what kind of split they are; empty if nothing says so.

    Raises:
        LayoutError: they have different columns, or one can't be read.
    """
    tables = [_table(file, path, split, request) for file in files]
    for file, table in zip(files, tables, strict=True):
        if set(table.column_names) != set(tables[0].column_names):
            two = f"{one_line(files[0].name, 60)} and {one_line(file.name, 60)}"
            raise LayoutError(f"{two} have different columns: give one as --dataset FILE, or call them train and val")
    return arrow.dataset(arrow.joined(tables))


def _table(file: Path, path: Path, split: str, request: DataRequest) -> pa.Table:
    """One table, with the folder of each picture; relative names begin at the table's own folder."""

    table = READERS[file.suffix.lower()](file)
    features = dict.fromkeys(table.column_names, "")
    meant = understood(features, request.column_names, request.columns)
    ours = ["image", *further_images({*table.column_names, *meant})]
    columns = [name for name in (meant.get(own, own) for own in ours) if name in table.column_names]
    own = file.parent.relative_to(path).as_posix() if file.is_relative_to(path) else "."
    first = ["", *PICTURE_FOLDERS] if own == "." else [own, *(f"{own}/{name}" for name in PICTURE_FOLDERS), ""]
    folders = PictureFolders.of(path, request)
    for column in columns:
        table = table.set_column(table.column_names.index(column), column, _as_lists(table[column]))
        if (names := _texts_of(table[column])) is not None:
            values = _like(table[column], folders.complete(names, first, split))
            table = table.set_column(table.column_names.index(column), column, values)
    named = [column for column in columns if _texts_of(table[column]) is not None]
    return _split_by_folder(table, named) if file.stem.lower() == "metadata" and named else table


def _as_lists(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Lists of texts of whatever kind as ordinary ones; anything else as it is."""
    import pyarrow as pa

    kind, lists = column.type, (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(test(kind) for test in lists):
        return column
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return column.cast(pa.list_(pa.string())) if any(test(kind.value_type) for test in texts) else column


def _texts_of(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The texts of a column of texts, or of lists of texts; None: it holds something else."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(column.type):
        column = pc.list_flatten(column)
    return column if pa.types.is_string(column.type) else None


def _like(column: pa.ChunkedArray, texts: pa.ChunkedArray) -> Any:
    """``texts`` in lists as those of ``column``."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_list(column.type):
        return texts
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    offsets = pa.array(np.append(0, np.cumsum(lengths)), pa.int32())
    missing = pc.is_null(column).combine_chunks()
    return pa.ListArray.from_arrays(offsets, texts.combine_chunks(), mask=missing)


def _split_by_folder(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """With a column ``split`` if the pictures' folders are splits, as in ``train/1.png`` and ``test/2.png``.

    Raises:
        LayoutError: the pictures of one row are of several splits.
    """
    import pyarrow as pa

    if "split" in table.column_names:
        return table
    kinds: list[set[str]] = [set() for _ in range(table.num_rows)]
    for column in columns:
        for own, names in zip(kinds, table[column].to_pylist(), strict=True):
            every = names if isinstance(names, list) else [names]
            own |= {split_kind(str(name).rpartition("/")[0]) for name in every if name}
    if (mixed := next((row for row, own in enumerate(kinds) if len(own) > 1 and all(own)), None)) is not None:
        raise LayoutError(f"the pictures of row {mixed} lie in several splits ({', '.join(sorted(kinds[mixed]))})")
    if not all(len(own) == 1 and all(own) for own in kinds) or len(set.union(*kinds)) == 1:
        return table
    return table.append_column("split", pa.array([own.pop() for own in kinds]))
