"""What identifies an image: the content of its file."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from fedumm.backends.protocol import Progress

_READ = 1000


def image_keys(rows: Any, progress: Progress) -> list[str]:
    """SHA-256 of each row's image file, in hexadecimal; equal files have equal keys. Nothing is decoded."""
    from datasets import Image

    digests: dict[str, str] = {}
    keys: list[str] = []
    stored = rows.select_columns("image").cast_column("image", Image(decode=False)).with_format("arrow")
    for table in stored.iter(_READ):
        for image in table["image"].to_pylist():
            data, path = (image["bytes"], image["path"]) if image else (None, None)
            if data is not None:
                keys.append(hashlib.sha256(data).hexdigest())
            elif path is not None:
                keys.append(digests.get(path) or digests.setdefault(path, _digest_file(path)))
            else:
                keys.append(_unknown())
        progress("looking at the images", len(keys), len(rows))
    return keys


def _digest_file(path: str) -> str:
    import fsspec

    try:
        with fsspec.open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except Exception:  # of whatever file system it is
        return _unknown()


def _unknown() -> str:
    """A key that no other image has or will have. Reading the image will say what is wrong, and in which row."""
    return f"unknown-{uuid.uuid4().hex}"
