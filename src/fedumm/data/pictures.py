"""The column ``image`` of raw rows, as one kind whatever it is: embedded, names of files, characters, lists.

The further images of a row, of a list or of columns ``image_2`` and so on, become columns ``image_2`` and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from fedumm.config.columns import further_images
from fedumm.data.column_values import ROWS
from fedumm.data.picture_text import found
from fedumm.data.places import Places
from fedumm.errors import FedummError
from fedumm.texts import one_line

MOST_IMAGES = 99
"""In a row."""


@dataclass(frozen=True)
class ImageFacts:
    """What is known of a row's image without reading any.

    Attributes:
        size: bytes, where it is embedded.
        text: the name of its file, or what a longer text begins with.
        length: bytes of that text, whole.
        count: images in the row.
    """

    size: int | None
    text: str | None
    length: int
    count: int


def without_media(rows: Any) -> Any:
    """``rows`` without columns that are more than text and numbers, but for images: to read one is to open files."""
    kept = {"image", *further_images(rows.column_names)}
    media = [name for name, feature in rows.features.items() if name not in kept and _decodes(feature)]
    return rows.remove_columns(media) if media else rows


def with_pictures(rows: Any, places: Places, what: str, *, several: bool = False) -> tuple[Any, dict[int, str]]:
    """``rows`` whose ``image`` is a :class:`~fedumm.data.picture_feature.Picture`, and the rows that have none.

    No image is read or copied, and nothing is written: what is mapped into memory stays so.

    Args:
        places: where files may lie.
        what: which rows they are, for the message.
        several: a row may have more than one image: further ones are in ``image_2`` and so on, null where there is
            none.

    Returns:
        The rows, and for each number of a row without usable images half a sentence that says why: ``the column image
        is empty``, ``the column image_2 names 'x.png', and there is no such file``, ``has 3 images, and this backend
        reads one``.

    Raises:
        FedummError: the column holds something else than images, or there are both lists and further columns.
    """
    if "image" not in rows.column_names or not rows.data.num_rows:
        return rows, {}
    _check_kind(rows, "image", what)
    further = [name for name in further_images(rows.column_names) if several or _holds_pictures(rows, name)]
    for name in further:
        _check_kind(rows, name, what)
    facts = {name: list(image_facts(rows, name)) for name in ("image", *further)}
    why = lru_cache(maxsize=None)(partial(_reason, places=places))
    more = [[own.count if own.count > 1 else bool(own.size or own.text) for own in facts[name]] for name in further]
    counts = list(map(sum, zip([own.count for own in facts["image"]], *more, strict=True)))
    most = max(own.count for own in facts["image"])
    lists = next((name for name in facts if any(own.count > 1 for own in facts[name])), "")
    if several and lists:
        if further:
            raise FedummError(f"{what}: the column {lists} holds lists, and there are others: put all in one way.")
        if most > MOST_IMAGES:
            raise FedummError(f"{what}: a row has {most:,} images; {MOST_IMAGES} is the limit.")
        rows, further = _spread(rows, most), [f"image_{number + 1}" for number in range(1, most)]
        facts = {name: list(image_facts(rows, name)) for name in ("image", *further)}
    bad = {}
    for row, count in enumerate(counts):
        if not several and count > 1:
            bad[row] = f"has {count} images, and this backend reads one"
        elif reason := next(filter(None, (_missing(name, facts[name][row], why) for name in facts)), ""):
            bad[row] = reason
    for name in facts if several else ["image"]:
        picture = _picture(mode=getattr(rows.features[name], "mode", None), places=places.as_json())
        rows = rows.cast_column(name, picture)
    return (rows if several else rows.remove_columns(further)), bad


def _spread(rows: Any, most: int) -> Any:
    """``rows`` whose lists of images became columns ``image`` and ``image_2`` to ``image_{most}``."""
    from datasets import concatenate_datasets

    from fedumm.data.picture_feature import PictureEntry

    mode = getattr(_innermost(rows.features["image"]), "mode", None)
    lists = rows.select_columns("image")
    parts = [lists.cast_column("image", PictureEntry(number)).cast_column("image", _picture(mode=mode))
             for number in range(most)]  # fmt: skip
    named = [part if not number else part.rename_column("image", f"image_{number + 1}")
             for number, part in enumerate(parts)]  # fmt: skip
    others = [rows.remove_columns("image")] if len(rows.column_names) > 1 else []
    return concatenate_datasets([*others, *named], axis=1)


def _picture(**options: Any) -> Any:
    # Not above: datasets takes long to import, and the commands that read no picture are quick.
    from fedumm.data.picture_feature import Picture

    return Picture(**options)


def _innermost(feature: Any) -> Any:
    while hasattr(feature, "feature"):
        feature = feature.feature
    return feature


def _holds_pictures(rows: Any, name: str) -> bool:
    from fedumm.data.picture_feature import is_pictures

    return is_pictures(rows.features[name], rows.data.schema.field(name).type)


def _check_kind(rows: Any, name: str, what: str) -> None:
    if not _holds_pictures(rows, name):
        feature = rows.features[name]
        kind = type(feature).__name__ if _decodes(feature) else rows.data.schema.field(name).type
        raise FedummError(f"{what}: the column {name} holds {one_line(kind, 80)}, not images or names of files.")


def image_facts(rows: Any, column: str = "image") -> Iterator[ImageFacts]:
    """What is known of each row's image; reads none: a data set may be 60 GB."""
    from fedumm.data.picture_feature import PictureFacts

    if not rows.data.num_rows:
        return
    known = rows.select_columns(column).with_format("arrow").cast_column(column, PictureFacts())
    for part in known[:][column].chunks:
        for start in range(0, len(part), ROWS):
            columns = [child.to_pylist() for child in part.slice(start, ROWS).flatten()]
            yield from map(ImageFacts, *columns)


def image_paths(rows: Any) -> list[str | None]:
    """The full path, or the address, of each row's image; None where it is embedded, or there is none."""
    places = places_of(rows)
    path = lru_cache(maxsize=None)(partial(_path, places=places))
    return [
        path(facts.text, facts.length) if facts.size is None and facts.text else None for facts in image_facts(rows)
    ]


def places_of(rows: Any) -> Places | None:
    """Where the files may lie that the column ``image`` names, as :func:`with_pictures` was told."""
    places = getattr(rows.features["image"], "places", None)
    return Places.from_json(places) if places else None


def _missing(column: str, facts: ImageFacts, why: Callable[[str, int], str]) -> str:
    """Why the row has no image there, or nothing; a row may do without further ones."""
    if facts.size is None and facts.text:
        reason = why(facts.text, facts.length)
    else:
        reason = "" if facts.size or (column != "image" and facts.size is None) else "is empty"
    return reason and f"the column {column} {reason}"


def _reason(text: str, length: int, places: Places) -> str:
    try:
        found(text, length, places)
    except FedummError as error:
        return str(error)
    return ""


def _path(text: str, length: int, places: Places | None) -> str | None:
    try:
        return found(text, length, places)
    except FedummError:
        return None


def _decodes(feature: Any) -> bool:
    """Whether reading a value of ``feature`` runs a decoder: pictures, sound, films, documents."""
    if isinstance(feature, dict):
        return any(map(_decodes, feature.values()))
    if isinstance(feature, list | tuple):
        return any(map(_decodes, feature))
    return hasattr(feature, "decode_example") or _decodes(getattr(feature, "feature", ()))
