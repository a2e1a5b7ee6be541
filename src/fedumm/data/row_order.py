"""Whether the rows of a data set are those of its table, in its order.

``datasets`` keeps what ``select`` or ``shuffle`` chose as a list of numbers beside the table, and tells nobody. To put
a column beside such rows, it writes all of them anew: into the folder of the data, if that is where they are mapped
from.
"""

from __future__ import annotations

import uuid
import warnings
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from datasets import Dataset
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
        address = next((buffer.address for buffer in storage.buffers() if buffer), 0)
        addresses = np.full(len(storage), address, np.uint64)
        numbers = storage.offset + np.arange(len(storage))
        return pa.StructArray.from_arrays([pa.array(addresses), pa.array(numbers)], fields=list(self.pa_type))


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that it is experimental
    register_feature(RowPlace, "RowPlace")


def lies_in_order(rows: Any) -> bool:
    """Whether ``rows`` are all of their table, in its order. No value is read."""
    if len(rows) != rows.data.num_rows:
        return False
    # Without a name, 'datasets' would read all of it for one.
    whole = Dataset(rows.data, info=rows.info, fingerprint=uuid.uuid4().hex)
    return not len(rows) or all(_places(rows, name).equals(_places(whole, name)) for name in rows.column_names)


def _places(rows: Any, column: str) -> pa.ChunkedArray:
    return rows.select_columns(column).with_format("arrow").cast_column(column, RowPlace())[:][column]
