"""Which rows show the same image, or one of several.

By the first column of the data that is named like one of :data:`NAMES`; where there is none, or it is null, NaN or
blank, by the image's file; where the image is in the data themselves, by the SHA-256 of its content. A row without a
name has that of the first named row with the same file or content.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fedumm.config.columns import further_images
from fedumm.data.column_values import values_of
from fedumm.data.each_picture import each_picture
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


@dataclass(frozen=True)
class Identities:
    """What the images of some rows are called.

    Attributes:
        names: equal for rows that show the same image, or one of several, be it by way of other rows.
        exact: equal for rows that show the same images, in order.
        how: images were told apart, in words.
    """

    names: list[str]
    exact: list[str]
    how: str


def image_identities(rows: Any, column: str, numbers: Sequence[int]) -> Identities:
    """How to call the images of each row of ``numbers``.

    Args:
        rows: with ``column`` or pictures (:class:`fedumm.data.picture.Picture`) in a column ``image``, or both.
        column: of :func:`identity_column`; may be empty. Rows with several images share one also if it says so.
    """
    names, how = _first_images(rows, column, numbers)
    further = further_images(rows.column_names) if "image" in rows.column_names else []
    if not further:
        return Identities(names, names, how)
    pictures = each_picture(rows.select_columns(["image", *further]))
    own, way = _first_images(pictures.rows, "", range(len(pictures.rows)))
    by_row = [[own[picture] for picture in of_row] for of_row in pictures.of_rows()]
    chosen = [by_row[number] for number in numbers]
    said = [[name, *images] for name, images in zip(names, chosen, strict=True)] if column else chosen
    return Identities(_joint(said), [json.dumps(images) for images in chosen], f"{how}, and {way}" if column else way)


def _joint(rows: Sequence[Sequence[str]]) -> list[str]:
    """One name for each of ``rows`` of names, the same for those that share one, be it by way of others."""
    above: dict[str, str] = {}

    def first(name: str) -> str:
        while (higher := above.setdefault(name, name)) != name:
            above[name] = above[higher]
            name = higher
        return name

    for names in rows:
        for other in names[1:]:
            one, two = first(names[0]), first(other)
            above[two] = one
    return [first(names[0]) for names in rows]


def _first_images(rows: Any, column: str, numbers: Sequence[int]) -> tuple[list[str], str]:
    """A name for the first image of each row of ``numbers``, and how they were told apart, in words."""
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
