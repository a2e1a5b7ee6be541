"""Which rows show the same image.

By the first column of the data that is named like one of :data:`NAMES`; where there is none, or it is null, NaN or
blank, by the image's file; where the image is in the data themselves, by the SHA-256 of its content. A row without a
name has that of the first named row with the same file or content.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from fedumm.data.column_values import values_of
from fedumm.data.image_digests import image_digests
from fedumm.data.pictures import image_paths
from fedumm.data.places import is_address

NAMES = ("imageid", "imgid", "idimage", "idimg", "imageids", "cocoid")
"""As :func:`plain` writes them: ``image_id``, ``img_id``, ``imageId``, ``imgid``, ``id_image`` and the like."""


def plain(column: str) -> str:
    """The letters and digits of a column's name, in lower case."""
    return "".join(character for character in column.lower() if character.isalnum())


def identity_column(columns: Iterable[str]) -> str:
    """The column that tells images apart; empty: none does."""
    by_name = {plain(column): column for column in reversed(list(columns))}
    return next((by_name[name] for name in NAMES if name in by_name), "")


def image_identities(rows: Any, column: str, numbers: Sequence[int]) -> tuple[list[str], str]:
    """A name for the image of each row of ``numbers``, equal for equal images, and how they were told apart, in words.

    Args:
        rows: with ``column`` or pictures (:class:`fedumm.data.picture.Picture`) in a column ``image``, or both.
        column: of :func:`identity_column`; may be empty.
    """
    values = list(map(_name, values_of(rows, column))) if column else [""] * len(rows)
    unnamed = [number for number in dict.fromkeys(numbers) if not values[number]]
    if not unnamed or "image" not in rows.column_names:
        return [values[n] or f"row {n}" for n in numbers], f"the column {column}"
    file = lru_cache(maxsize=None)(lambda path: path if is_address(path) else os.path.realpath(path))
    files = [path and file(path) for path in image_paths(rows)]
    embedded = sorted(number for number in unnamed if not files[number])
    if embedded and len(unnamed) < len(set(numbers)):
        # A row with a name may show the same image.
        embedded = sorted({*embedded, *(number for number in numbers if not files[number])})
    content = dict(zip(embedded, image_digests(rows, numbers=embedded), strict=True)) if embedded else {}
    images = {n: f"sha256:{content[n]}" if n in content else f"file:{files[n]}" for n in numbers}
    known: dict[str, str] = {}
    for n in numbers:
        if values[n]:
            known.setdefault(images[n], values[n])
    names = [values[n] or known.get(images[n], images[n]) for n in numbers]
    ways = [f"the column {column}"] if column and len(unnamed) < len(set(numbers)) else []
    ways += ["their files"] if any(files[number] for number in unnamed) else []
    ways += ["their content (SHA-256)"] if embedded else []
    return names, ", else ".join(ways)


def _name(value: Any) -> str:
    """What an image is called; empty for null, NaN and blank. 6.0 is 6: numbers beside nulls are floats."""
    if value is None or value != value:
        return ""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value).strip()
