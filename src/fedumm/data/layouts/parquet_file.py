"""Parquet without pictures in it is a table like any other; one with pictures is mapped by ``datasets``, not read."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def has_pictures(path: Path) -> bool:
    """Whether a column may hold pictures themselves: it is binary, or has binary fields."""
    import pyarrow.parquet as pq

    return any(_is_binary(column.type) for column in pq.read_schema(path))


def _is_binary(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return True
    return any(_is_binary(kind.field(place).type) for place in range(kind.num_fields))


def parquet_columns(path: Path) -> list[str]:
    """The names of its columns."""
    import pyarrow.parquet as pq

    names: list[str] = pq.read_schema(path).names
    return names


def read_parquet(path: Path) -> pa.Table:
    """The table in ``path``; class labels of ``datasets`` and categories of pandas are texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import ClassLabel, Dataset

    from fedumm.data.columns import as_text

    table = pq.read_table(path, partitioning=None)
    rows = Dataset(table, fingerprint=uuid.uuid4().hex)
    for place, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if isinstance(rows.features[name], ClassLabel):
            table = table.set_column(place, name, pa.array(as_text(rows, name), pa.string()))
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            table = table.set_column(place, name, column.cast(pa.string()))
    return table
