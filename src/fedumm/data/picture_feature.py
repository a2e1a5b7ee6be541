"""Columns of pictures for ``datasets``: opened by our reader, wherever a row is asked for.

A feature goes where its rows go: through ``select`` and ``concatenate_datasets``, and to workers, started in whatever
way. So a user's backend that reads ``rows[i]["image"]`` sees the same picture as everybody else.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, ClassVar

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from datasets.features.features import register_feature

from fedumm.data.picture_content import content, opened
from fedumm.data.picture_storage import STORAGE, holds_pictures, stored
from fedumm.data.picture_text import HEAD, LONGEST_NAME


@dataclass
class Picture(datasets.Image):  # type: ignore[misc]
    """An image, RGB: embedded, in a file that ``places`` allow, or in characters (``data:`` URI, base64).

    Attributes:
        places: :meth:`fedumm.data.places.Places.as_json`; None: file names as they stand.
    """

    places: str | None = None
    pa_type: ClassVar[Any] = STORAGE
    _type: str = field(default="Picture", init=False, repr=False)

    def decode_example(self, value: Any, token_per_repo_id: Any = None) -> Any:
        """The image of one stored value, RGB, or in ``mode``.

        Raises:
            ImageError: it can't be read, or there is none.
        """
        if not isinstance(value, dict):
            return value
        image = opened(content(value["bytes"], value["path"], self.places, value.get("taken")))
        return image.convert(self.mode) if self.mode else image

    def cast_storage(self, storage: pa.Array) -> pa.StructArray:
        """``storage`` in whatever way it holds images, as this feature keeps them; no image is copied."""
        return stored(storage).pictures

    def embed_storage(self, storage: pa.StructArray, *args: Any, **options: Any) -> pa.StructArray:
        """``storage`` with the content of files in it, as rows are saved."""
        data, text, taken = self.cast_storage(storage).flatten()
        if taken.null_count < len(taken):
            pairs = zip(data, taken, strict=True)
            whole = [own.as_py() and own.as_py()[: size.as_py()] for own, size in pairs]
            data = pa.array(whole, data.type)
        parts = pa.StructArray.from_arrays([data, text], fields=list(_Embedded.pa_type), mask=storage.is_null())
        return self.cast_storage(_Embedded().embed_storage(parts, *args, **options))


class _Embedded(datasets.Image):  # type: ignore[misc]
    pa_type: ClassVar[Any] = pa.struct(list(STORAGE)[:2])


@dataclass
class PictureFacts:
    """What can be said of a column of pictures without looking at any.

    Attributes (of a value):
        size: bytes of an embedded image, or null.
        text: a name whole, of a longer text what it begins with, or null.
        length: bytes of the whole text; 0 where there is none.
        count: images in the row.
    """

    id: str | None = field(default=None, repr=False)
    dtype: ClassVar[str] = "dict"
    pa_type: ClassVar[Any] = pa.struct(
        {"size": pa.int64(), "text": pa.large_string(), "length": pa.int64(), "count": pa.int64()}
    )
    _type: str = field(default="PictureFacts", init=False, repr=False)

    def __call__(self) -> Any:
        """The type in which Arrow keeps it."""
        return self.pa_type

    def decode_example(self, value: Any, token_per_repo_id: Any = None) -> Any:
        """The value as it is."""
        return value

    def cast_storage(self, storage: pa.Array) -> pa.StructArray:
        """What is known of each row of a column of pictures."""
        part = stored(storage)
        data, text, taken = part.pictures.flatten()
        length = pc.binary_length(text)
        short = pc.if_else(pc.less_equal(length, LONGEST_NAME), text, None)
        # A slice of a long text begins with what no name is as long as.
        text = pc.coalesce(short, pc.utf8_slice_codeunits(text, 0, HEAD))
        parts = [
            pc.min_element_wise(pc.binary_length(data), taken),
            text,
            pc.fill_null(length, 0),
            pa.array(part.counts),
        ]
        return pa.StructArray.from_arrays(parts, fields=list(self.pa_type))


@dataclass
class PictureEntry:
    """One entry of each list of pictures, by its number from 0; null where a list has fewer."""

    number: int = 0
    id: str | None = field(default=None, repr=False)
    dtype: ClassVar[str] = "dict"
    pa_type: ClassVar[Any] = STORAGE
    _type: str = field(default="PictureEntry", init=False, repr=False)

    def __call__(self) -> Any:
        """The type in which Arrow keeps it."""
        return self.pa_type

    def decode_example(self, value: Any, token_per_repo_id: Any = None) -> Any:
        """The value as it is."""
        return value

    def cast_storage(self, storage: pa.Array) -> pa.StructArray:
        """Those of a column of lists; no image is copied."""
        return stored(storage, self.number).pictures


def is_pictures(feature: Any, kind: pa.DataType) -> bool:
    """Whether a column may be cast to :class:`Picture`; one of sound or films is kept in the same way, and may not."""
    while isinstance(feature, datasets.List | datasets.LargeList):
        feature = feature.feature
    other = hasattr(feature, "decode_example") and not isinstance(feature, datasets.Image)
    return holds_pictures(kind) and not other


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that it is experimental
    register_feature(Picture, "Picture")
    register_feature(PictureFacts, "PictureFacts")
    register_feature(PictureEntry, "PictureEntry")
