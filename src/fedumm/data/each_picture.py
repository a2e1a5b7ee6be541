"""All pictures of rows that may have several, as rows with one picture each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedumm.config.columns import further_images
from fedumm.data.bad_rows import OF_ROW
from fedumm.data.column_values import SOURCE_ROW
from fedumm.data.pictures import image_facts


@dataclass(frozen=True)
class EachPicture:
    """Rows with one picture each.

    Attributes:
        rows: the pictures in a column ``image``; first those of all rows, in order, then the further ones.
        owners: the row that each is of.
    """

    rows: Any
    owners: Sequence[int]

    def of_rows(self) -> list[list[int]]:
        """The numbers of each row's pictures, in order."""
        found: dict[int, list[int]] = {}
        for number, owner in enumerate(self.owners):
            found.setdefault(owner, []).append(number)
        return [found[row] for row in range(len(found))]


def each_picture(rows: Any) -> EachPicture:
    """The pictures of ``rows`` (:func:`fedumm.data.pictures.with_pictures`); no image is read or copied."""
    from datasets import concatenate_datasets

    further = further_images(rows.column_names)
    if not further:
        return EachPicture(rows, range(len(rows)))
    named = [name for name in (SOURCE_ROW, "image_id") if name in rows.column_names]
    parts, owners = [rows.select_columns(["image", *named])], list(range(len(rows)))
    for column in further:
        there = [row for row, facts in enumerate(image_facts(rows, column)) if facts.size or facts.text]
        if there:
            parts.append(rows.select_columns([column, *named]).rename_column(column, "image").select(there))
            owners += there
    pictures = concatenate_datasets(parts)
    if SOURCE_ROW in named:
        pictures = pictures.rename_column(SOURCE_ROW, OF_ROW)
    return EachPicture(pictures, owners)
