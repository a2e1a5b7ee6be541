"""Columns by the names that people give them: as ``--columns`` says, else where there is no doubt.

What identifies an image, what an answer is, and which captions there are, :mod:`fedumm.data.columns` says: here a
column ``image`` or ``question`` is found by its other names, and any other whatever its case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedumm.config.columns import COLUMN_NAMES, further_images
from fedumm.data.answers import ANSWER_COLUMNS
from fedumm.errors import FedummError, did_you_mean
from fedumm.texts import one_line

_OTHERS = {
    "image": (
        "file_name", "filename", "image_path", "image_file", "image_name", "img", "img_path", "img_file", "img_name",
        "picture", "photo", "images", "image_1", "jpg", "jpeg", "png", "webp",
    ),
    "question": ("query",),
    "caption": ("txt",),
    "text": ("report", "reports", "finding", "findings", "impression", "description"),
    "language": ("lang", "q_lang"),
}  # fmt: skip
"""Our name: theirs, as :func:`_plain` writes them."""


_SAME = (ANSWER_COLUMNS, frozenset({"caption", "captions", "text", "texts"}))
"""Columns that say the same: the others do not count where ``--columns`` names some."""

_UNLESS = {"text": frozenset({"caption", "captions", "texts"})}
"""A name of ours is given to another column if none of these is there, and only if a backend reads it: a report beside
questions is no text to write."""

_LISTED = 30
"""Columns in a message."""


def understood(features: Mapping[str, Any], given: Mapping[str, str], read: Sequence[str] = ()) -> dict[str, str]:
    """Which column is meant by which of our names, where theirs is another.

    Args:
        features: the columns there are, with their types.
        given: theirs by ours, as ``--columns`` says.
        read: names that the backend reads as they are: they mean nothing else.
    """
    found = dict(given)
    taken = {*COLUMN_NAMES, *further_images(features), *given.values(), *read}
    free = [name for name in features if name not in taken]
    for ours in COLUMN_NAMES:
        if ours in found or ours in features:
            continue
        if ours in _UNLESS and (ours not in read or not _UNLESS[ours].isdisjoint({*features, *found})):
            continue
        if len(meant := could_be(ours, free, features)) == 1:
            found[ours] = meant[0]
            free.remove(meant[0])
    return found


def could_be(ours: str, free: Iterable[str], features: Mapping[str, Any]) -> list[str]:
    """The columns of ``free`` that may be meant by our name."""
    same = [name for name in free if _plain(name) == ours]
    others = same or [name for name in free if _plain(name) in _OTHERS.get(ours, ())]
    # A picture is beside the name of its file.
    return [name for name in others if ours == "image" and _is_picture(features[name])] or others


def renamed(rows: Any, names: Mapping[str, str], what: str) -> Any:
    """``rows`` whose columns ``names.values()`` are called ``names.keys()``; another column of such a name is dropped.

    Raises:
        FedummError: there is no such column.
    """
    for theirs in names.values():
        if theirs not in rows.column_names:
            raise FedummError(
                f"{what} have no column '{one_line(theirs, 60)}', which --columns names. "
                f"They have: {listed(rows.column_names)}."
                f"{did_you_mean(theirs, rows.column_names)}"
            )
    rows = rows.remove_columns([c for c in names if c in rows.column_names and c not in names.values()])
    return rows.rename_columns({theirs: ours for ours, theirs in names.items() if ours != theirs}) if names else rows


def listed(columns: Sequence[str]) -> str:
    """``columns`` with commas between; of many, the first."""
    rest = [f"and {len(columns) - _LISTED:,} more"] if len(columns) > _LISTED else []
    return ", ".join([*(one_line(name, 60) for name in columns[:_LISTED]), *rest])


def without_rivals(rows: Any, given: Mapping[str, str]) -> tuple[Any, list[str]]:
    """``rows`` without columns that say what one that ``--columns`` names says, and what was dropped, in words.

    Args:
        rows: of :func:`renamed`.
        given: theirs by ours, as ``--columns`` says.
    """
    notes, dropped = [], list[str]()
    for group in _SAME:
        named = [f"{ours} from {theirs}" for ours, theirs in given.items() if ours in group]
        rivals = [name for name in rows.column_names if named and name in group and name not in given]
        if rivals:
            dropped += rivals
            notes.append(f"{' and '.join(named)}, as --columns says: {', '.join(rivals)} not read")
    return rows.remove_columns(dropped), notes


def unread_images(columns: Iterable[str]) -> list[str]:
    """Columns that are called like a further image, and are none: ``image2``, ``img_3``."""
    columns = list(columns)
    known = {"image", *further_images(columns)}
    like = re.compile(r"(image|img|picture|photo)s?[ _-]?\d+", re.IGNORECASE)
    return [name for name in columns if name not in known and like.fullmatch(name)]


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
