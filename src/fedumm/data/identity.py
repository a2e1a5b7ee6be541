"""Which rows show the same image.

By the first column of the data that is named like one of :data:`NAMES`; where there is none, or it is null, by the
image's file; where the image is in the data themselves, by the SHA-256 of its content.
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
    values = list(values_of(rows, column)) if column else [None] * len(rows)
    named = [values[number] for number in numbers]
    unnamed = [number for number, name in zip(numbers, named, strict=True) if name is None]
    if not unnamed or "image" not in rows.column_names:
        return [
            f"row {n}" if v is None else str(v) for n, v in zip(numbers, named, strict=True)
        ], f"the column {column}"
    file = lru_cache(maxsize=None)(lambda path: path if is_address(path) else os.path.realpath(path))
    files = [path and file(path) for path in image_paths(rows)]
    embedded = sorted({number for number in unnamed if not files[number]})
    content = dict(zip(embedded, image_digests(rows, numbers=embedded), strict=True)) if embedded else {}
    names = [
        f"sha256:{content[n]}" if v is None and n in content else f"file:{files[n]}" if v is None else str(v)
        for n, v in zip(numbers, named, strict=True)
    ]
    ways = [f"the column {column}"] if column and len(unnamed) < len(named) else []
    ways += ["their files"] if len(embedded) < len(set(unnamed)) else []
    ways += ["their content (SHA-256)"] if embedded else []
    return names, ", else ".join(ways)
