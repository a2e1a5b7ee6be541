"""The column ``image`` of raw rows: embedded pictures as they are, names of files checked and resolved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fedumm.data.places import Places
from fedumm.errors import FedummError

_TEXTS = ("string", "large_string", "string_view")
_READ = 1000


def without_media(rows: Any) -> Any:
    """``rows`` without columns that are more than text and numbers, but for ``image``: to read one is to open files."""
    media = [name for name, feature in rows.features.items() if name != "image" and _decodes(feature)]
    return rows.remove_columns(media) if media else rows


def with_pictures(rows: Any, places: Places) -> Any:
    bad = {}
    numbers = range(len(rows))
    what = ""
    r = _with_pictures(rows, numbers, places, what, bad)
    return r, bad

def _with_pictures(rows: Any, numbers: Sequence[int], places: Places, what: str, bad) -> Any:
    """``rows`` whose ``image`` can be read: names of files, relative ones too, have become full paths.

    Args:
        numbers: what each row is called in messages.
        what: which rows they are, for messages.

    Raises:
        FedummError: a row names a file that is not there or may not be read, or has no image.
    """
    from datasets import Image

    feature = rows.features.get("image")
    if isinstance(feature, Image):
        if all(_embedded(rows)):
            return rows
        stored = list(_stored(rows))
    elif getattr(feature, "dtype", "") in _TEXTS:
        stored = [{"bytes": None, "path": name} for name in rows["image"][:]]
    elif feature is not None and _decodes(feature):
        raise FedummError(f"{what}: the column image holds {type(feature).__name__}, not images or names of files.")
    else:
        return rows
    found = [_found2(image, number, places, what, bad) for image, number in zip(stored, numbers, strict=True)]
    if isinstance(feature, Image) and [image and image["path"] for image in found] == [image and image["path"] for image in stored]:
        return rows
    return _replaced(rows, found)


def _embedded(rows: Any) -> Iterator[bool]:
    """Whether the images of each part of the table are in it. Reads none of them: a data set may be 60 GB."""
    for part in rows.data.column("image").chunks:
        yield part.null_count == 0 and part.field("bytes").null_count == 0


def _stored(rows: Any) -> Iterator[dict[str, Any]]:
    from datasets import Image

    raw = rows.select_columns("image").cast_column("image", Image(decode=False)).with_format("arrow")
    for table in raw.iter(_READ):
        yield from (image or {"bytes": None, "path": None} for image in table["image"].to_pylist())


def _found(image: dict[str, Any], number: int, places: Places, what: str) -> dict[str, Any]:
    if image["bytes"] is not None:
        # 'datasets' would keep the path alone, should there be such a file on this machine.
        return {"bytes": image["bytes"], "path": None}
    try:
        if not image["path"]:
            raise FedummError("is empty")
        return {"bytes": None, "path": places.find(image["path"])}
    except FedummError as error:
        raise FedummError(f"{what}: the column image of row {number} {error}.") from None


def _replaced(rows: Any, images: list[dict[str, Any]]) -> Any:
    from datasets import Dataset, Features, Image, concatenate_datasets

    rest = rows.remove_columns("image")
    column = Dataset.from_dict({"image": images}, features=Features({"image": Image()}))
    return concatenate_datasets([column, rest], axis=1) if rest.column_names else column


def _decodes(feature: Any) -> bool:
    """Whether reading a value of ``feature`` runs a decoder: pictures, sound, films, documents."""
    if isinstance(feature, dict):
        return any(map(_decodes, feature.values()))
    if isinstance(feature, list | tuple):
        return any(map(_decodes, feature))
    return hasattr(feature, "decode_example") or _decodes(getattr(feature, "feature", ()))

def _found2(image, number, places, what, bad):
    try:
        return _found(image, number, places, what)
    except FedummError as e:
        bad[number] = str(e)
        return None
