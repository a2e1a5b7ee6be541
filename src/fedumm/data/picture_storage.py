"""The ways in which an Arrow column holds pictures, as one way, without copying what they consist of.

A column of images is the greater part of a data set, and often a file that is mapped into memory. So only offsets and
marks of what is null are made anew, eight bytes a row; the content stays in the buffers where it lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

STORAGE = pa.struct({"bytes": pa.large_binary(), "path": pa.large_string(), "taken": pa.int64()})
"""Content, or else a text: a name, or an image in characters. Large, since a part may have more than 2 GiB.

Only the first ``taken`` bytes are the image (null: all are): of lists of several, what lies behind an entry in the
buffer up to the next row's comes with it.
"""

FIELDS = ("bytes", "path")
_BINARY = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_LIST = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)

Integers = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Stored:
    """A part of a column.

    Attributes:
        pictures: of the type :data:`STORAGE`; null where there is none, or more than one.
        counts: images in each row.
    """

    pictures: pa.StructArray
    counts: Integers


def holds_pictures(kind: pa.DataType) -> bool:
    """Whether :func:`stored` takes a column of this type."""
    while _is(kind, _LIST):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        named = [kind.field(name).type for name in FIELDS if kind.get_field_index(name) >= 0]
        return bool(named) and all(pa.types.is_null(part) or _is(part, (*_BINARY, *_TEXT)) for part in named)
    return pa.types.is_null(kind) or _is(kind, (*_BINARY, *_TEXT))


def stored(array: pa.Array, number: int | None = None) -> Stored:
    """One picture a row from structs of ``bytes`` and ``path``, binaries, texts, and lists of exactly one of these.

    A null in a list, with which lists are made equally long, is no entry.

    Args:
        number: of the entry that is taken of each list, from 0; null where a list has fewer. ``counts`` are those of
            whole lists all the same.

    Raises:
        TypeError: it holds none of these.
    """
    if not holds_pictures(array.type):
        raise TypeError(f"a column of the type {array.type} holds no images")
    counts, starts = np.ones(len(array), np.int64), np.arange(len(array) + 1)
    nested, odd = False, np.zeros(len(array), bool)
    while _is(array.type, _LIST):
        nested, odd = True, odd | (nested & (counts > 1))
        offsets = _offsets(array)
        there = (counts == 1) & _at(array.is_valid(), starts)
        starts = offsets[starts]
        # A null list may have entries all the same, as those of a fixed size have.
        counts = np.where(there, np.diff(starts), np.where(counts == 1, 0, counts))
        array = array.values
        if not _is(array.type, _LIST) and (number is not None or array.null_count):
            # A list of several lists is no list of images.
            return _entries(array, starts, np.where(odd & (number is not None), 0, counts), there & ~odd, number)
    valid = (counts == 1) & _at(array.is_valid(), starts)
    children = [_child(array, name) for name in FIELDS]
    if nested:
        children = [_one_each(child, starts, valid) for child in children]
    taken = array.field("taken") if array.type == STORAGE else pa.nulls(len(valid), pa.int64())
    return Stored(_structs([*children, taken], valid), np.where((counts == 1) & ~valid, 0, counts))


def _entries(values: pa.Array, starts: Integers, counts: Integers, lists: Flags, number: int | None) -> Stored:
    """The entry ``number`` (None: the only one) of each of ``lists``; texts are copied, bytes are not.

    Lists begin at ``starts``; what ``counts`` holds of other rows stays.
    """
    known = values.is_valid().to_numpy(zero_copy_only=False).astype(bool)
    before = np.append(0, np.cumsum(known))
    ends = before[starts]
    counts = np.where(lists, np.diff(ends), counts)
    taken = np.append(np.flatnonzero(known), len(known))[np.minimum(ends[:-1] + (number or 0), before[-1])]
    places = np.minimum(taken, starts[1:])
    bounds = np.append(places, starts[-1:])
    valid = lists & (counts == 1 if number is None else counts > number)
    data, text = (_child(values, name) for name in FIELDS)
    chosen = pa.array(np.where(valid, places, 0), mask=~valid)
    sizes = pc.binary_length(data).cast(pa.int64()).take(chosen)
    return Stored(_structs([_one_each(data, bounds, valid), text.take(chosen), sizes], valid), counts)


def _structs(children: list[pa.Array], valid: Flags) -> pa.StructArray:
    mask = None if valid.all() else pa.array(~valid)
    return pa.StructArray.from_arrays(children, fields=list(STORAGE), mask=mask)


def _is(kind: pa.DataType | None, tests: Any) -> bool:
    return kind is not None and any(test(kind) for test in tests)


def _at(flags: pa.Array, starts: Integers) -> Flags:
    """The flag of each row's first entry; False where there is none."""
    known: Flags = np.append(flags.to_numpy(zero_copy_only=False).astype(bool), False)
    return known[starts[:-1]]


def _offsets(array: pa.Array) -> Integers:
    """Where the entries of each list begin among ``array.values``, and where the last one ends."""
    if pa.types.is_fixed_size_list(array.type):
        fixed: Integers = (array.offset + np.arange(len(array) + 1)) * array.type.list_size
        return fixed
    offsets: Integers = np.asarray(array.offsets).astype(np.int64)
    return offsets


def _child(array: pa.Array, name: str) -> pa.Array:
    """All bytes, or all texts, of values that are not lists any more."""
    wanted = STORAGE.field(name).type
    if pa.types.is_struct(array.type):
        kinds = {array.type.field(i).name: array.type.field(i).type for i in range(array.type.num_fields)}
        # JSON has no bytes: there they are base64.
        source = "bytes" if _is(kinds.get("bytes"), _TEXT) else name
        return _child(array.field(source), name) if source in kinds else pa.nulls(len(array), wanted)
    same = _is(array.type, _BINARY if name == "bytes" else _TEXT)
    return array.cast(wanted) if same else pa.nulls(len(array), wanted)


def _one_each(child: pa.Array, starts: Integers, valid: Flags) -> pa.Array:
    """The entries at ``starts``, over the same buffer; what lies between two of them belongs to rows that are null."""
    _, offsets, content = child.buffers()
    all_offsets = np.frombuffer(offsets, np.int64)[child.offset :] if len(child) else np.zeros(1, np.int64)
    own = valid & _at(child.is_valid(), starts)
    bits = pa.py_buffer(np.packbits(own, bitorder="little").tobytes())
    chosen = pa.py_buffer(np.ascontiguousarray(all_offsets[starts]))
    parts = [bits, chosen, content or pa.py_buffer(b"")]
    return pa.Array.from_buffers(child.type, len(own), parts)
