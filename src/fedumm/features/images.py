"""What identifies an image: the content of its file."""

from __future__ import annotations

import hashlib
from pathlib import Path
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
            if image is None:
                # Reading it will say which row has none.
                keys.append(f"none-{len(keys)}")
            elif image["bytes"] is not None:
                keys.append(hashlib.sha256(image["bytes"]).hexdigest())
            else:
                path = image["path"]
                if path not in digests:
                    digests[path] = _digest_file(path)
                keys.append(digests[path])
        progress("looking at the images", len(keys), len(rows))
    return keys


def _digest_file(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        # Reading it as an image will say what is wrong, and in which row.
        return path
