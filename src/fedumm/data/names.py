"""Columns by the names that people give them: as ``--columns`` says, else where there is no doubt.

What identifies an image, what an answer is, and which captions there are, :mod:`fedumm.data.columns` says: here a
column ``image`` or ``question`` is found by its other names, and any other whatever its case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fedumm.config.columns import COLUMN_NAMES
from fedumm.errors import FedummError, did_you_mean
from fedumm.texts import one_line

_OTHERS = {
    "image": (
        "file_name", "filename", "image_path", "image_file", "image_name", "img", "img_path", "img_file", "img_name",
        "picture", "photo", "jpg", "jpeg", "png", "webp",
    ),
    "question": ("query",),
    "caption": ("txt",),
    "language": ("lang", "q_lang"),
}  # fmt: skip
"""Our name: theirs, as :func:`_plain` writes them."""


def understood(features: Mapping[str, Any], given: Mapping[str, str], read: Sequence[str] = ()) -> dict[str, str]:
    """Which column is meant by which of our names, where theirs is another.

    Args:
        features: the columns there are, with their types.
        given: theirs by ours, as ``--columns`` says.
        read: names that the backend reads as they are: they mean nothing else.
    """
    found = dict(given)
    free = [name for name in features if name not in {*COLUMN_NAMES, *given.values(), *read}]
    for ours in COLUMN_NAMES:
        if ours in found or ours in features:
            continue
        same = [name for name in free if _plain(name) == ours]
        others = same or [name for name in free if _plain(name) in _OTHERS.get(ours, ())]
        # A picture is beside the name of its file.
        embedded = [name for name in others if ours == "image" and _is_picture(features[name])]
        if len(one := embedded or others) == 1:
            found[ours] = one[0]
            free.remove(one[0])
    return found


def renamed(rows: Any, names: Mapping[str, str], what: str) -> Any:
    """``rows`` whose columns ``names.values()`` are called ``names.keys()``; another column of such a name is dropped.

    Raises:
        FedummError: there is no such column.
    """
    for theirs in names.values():
        if theirs not in rows.column_names:
            there = ", ".join(rows.column_names)
            raise FedummError(
                f"{what} have no column '{one_line(theirs, 60)}', which --columns names. They have: {one_line(there)}."
                f"{did_you_mean(theirs, rows.column_names)}"
            )
    rows = rows.remove_columns([c for c in names if c in rows.column_names and c not in names.values()])
    return rows.rename_columns({theirs: ours for ours, theirs in names.items() if ours != theirs}) if names else rows


def flattened(rows: Any) -> Any:
    """``rows`` with the fields of a WebDataset's ``json`` as columns: ``json.question`` is ``question``."""
    from datasets import concatenate_datasets

    if not isinstance(rows.features.get("json"), dict):
        return rows
    fields = rows.select_columns("json").flatten()
    rest = rows.remove_columns("json")
    taken = set(rest.column_names)
    short = {name: name.removeprefix("json.") for name in fields.column_names}
    fields = fields.rename_columns({name: end for name, end in short.items() if end not in taken})
    return concatenate_datasets([rest, fields], axis=1)


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _is_picture(feature: Any) -> bool:
    return type(feature).__name__ == "Image" or (isinstance(feature, dict) and "bytes" in feature)
