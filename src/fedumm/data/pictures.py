"""The column ``image`` of raw rows, as one kind whatever it is: embedded, names of files, characters, lists of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from fedumm.data.column_values import ROWS
from fedumm.data.picture_text import found
from fedumm.data.places import Places
from fedumm.errors import FedummError
from fedumm.texts import one_line


@dataclass(frozen=True)
class ImageFacts:
    """What is known of a row's image without reading any.

    Attributes:
        size: bytes, where it is embedded.
        text: the name of its file, or what a longer text begins with.
        length: bytes of that text, whole.
        count: images in the row; only one can be read.
    """

    size: int | None
    text: str | None
    length: int
    count: int


def without_media(rows: Any) -> Any:
    """``rows`` without columns that are more than text and numbers, but for ``image``: to read one is to open files."""
    media = [name for name, feature in rows.features.items() if name != "image" and _decodes(feature)]
    return rows.remove_columns(media) if media else rows


def with_pictures(rows: Any, places: Places, what: str) -> tuple[Any, dict[int, str]]:
    """``rows`` whose ``image`` is a :class:`~fedumm.data.picture_feature.Picture`, and the rows that have none.

    No image is read or copied, and nothing is written: what is mapped into memory stays so.

    Args:
        places: where files may lie.
        what: which rows they are, for the message.

    Returns:
        The rows, and for each number of a row without one usable image half a sentence that says why: ``is empty``,
        ``names 'x.png', and there is no such file``, ``holds 3 images; one is read``.

    Raises:
        FedummError: the column holds something else than images.
    """
    from fedumm.data.picture_feature import Picture, is_pictures

    if "image" not in rows.column_names or not rows.data.num_rows:
        return rows, {}
    feature, kind = rows.features["image"], rows.data.schema.field("image").type
    if not is_pictures(feature, kind):
        kind = type(feature).__name__ if _decodes(feature) else kind
        raise FedummError(f"{what}: the column image holds {one_line(kind, 80)}, not images or names of files.")
    why = lru_cache(maxsize=None)(partial(_reason, places=places))
    reasons = ((row, _missing(facts, why)) for row, facts in enumerate(image_facts(rows)))
    bad = {row: reason for row, reason in reasons if reason}
    picture = Picture(mode=getattr(feature, "mode", None), places=places.as_json())
    return rows.cast_column("image", picture), bad


def image_facts(rows: Any) -> Iterator[ImageFacts]:
    """What is known of each row's image; reads none: a data set may be 60 GB."""
    from fedumm.data.picture_feature import PictureFacts

    if not rows.data.num_rows:
        return
    known = rows.select_columns("image").with_format("arrow").cast_column("image", PictureFacts())
    for part in known[:]["image"].chunks:
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


def _missing(facts: ImageFacts, why: Callable[[str, int], str]) -> str:
    """Why the row has no image, or nothing."""
    if facts.count > 1:
        return f"holds {facts.count} images; one is read"
    if facts.size is None and facts.text:
        return why(facts.text, facts.length)
    return "" if facts.size else "is empty"


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
