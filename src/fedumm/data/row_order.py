"""Whether the rows of a data set are those of its table, in its order.

``datasets`` keeps what ``select`` or ``shuffle`` chose as a list of numbers beside the table, and tells nobody. To put
a column beside such rows, it writes all of them anew: into the folder of the data, if that is where they are mapped
from.
"""

from __future__ import annotations

import uuid
import warnings
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from datasets import Dataset, are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from datasets.features.features import register_feature


@dataclass
class RowPlace:
    """Where the value of a row lies: the address of its part of the column, and its number there."""

    id: str | None = field(default=None, repr=False)
    dtype: ClassVar[str] = "dict"
    pa_type: ClassVar[Any] = pa.struct({"address": pa.uint64(), "number": pa.int64()})
    _type: str = field(default="RowPlace", init=False, repr=False)

    def __call__(self) -> Any:
        """The type in which Arrow keeps it."""
        return self.pa_type

    def decode_example(self, value: Any, token_per_repo_id: Any = None) -> Any:
        """The value as it is."""
        return value

    def cast_storage(self, storage: pa.Array) -> pa.StructArray:
        """The place of each value."""
        addresses = np.full(len(storage), _address(storage), np.uint64)
        numbers = storage.offset + np.arange(len(storage))
        return pa.StructArray.from_arrays([pa.array(addresses), pa.array(numbers)], fields=list(self.pa_type))


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that it is experimental
    register_feature(RowPlace, "RowPlace")


def lies_in_order(rows: Any) -> bool:
    """Whether ``rows`` are all of their table, in its order. No value is read."""
    if len(rows) != rows.data.num_rows:
        return False
    # One order holds for all columns: one of which no two values lie in the same place shows it.
    telling = next((name for name in rows.column_names if _lies_once(rows.data.column(name))), None)
    columns = rows.column_names if telling is None else [telling]
    return not len(rows) or all(_in_order(rows, column) for column in columns)


def as_it_lies(rows: Any) -> Any:
    """``rows``, copied into memory if they are a choice of others' rows, or in another order."""
    if lies_in_order(rows):
        return rows
    hidden = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        return rows.flatten_indices(keep_in_memory=True)
    finally:
        if not hidden:
            enable_progress_bars()


def _lies_once(values: pa.ChunkedArray) -> bool:
    """Whether each value of a column has a place of its own: not if a table was put below itself."""
    parts = sorted((_address(part), part.offset, part.offset + len(part)) for part in values.chunks if len(part))
    apart = all(one[0] != two[0] or one[2] <= two[1] for one, two in pairwise(parts))
    return apart and all(address for address, _, _ in parts)


def _address(part: pa.Array) -> int:
    return next((buffer.address for buffer in part.buffers() if buffer), 0)


def _in_order(rows: Any, column: str) -> bool:
    # Without a name, 'datasets' would read all of it for one.
    whole = Dataset(rows.data.select([column]), fingerprint=uuid.uuid4().hex)
    return bool(_places(rows, column).equals(_places(whole, column)))


def _places(rows: Any, column: str) -> pa.ChunkedArray:
    return rows.select_columns(column).with_format("arrow").cast_column(column, RowPlace())[:][column]
