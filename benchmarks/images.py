#!/usr/bin/env python
"""Memory and time of looking at a column of images: which are the same, and which can't be read.

    python benchmarks/images.py

Each line is a process of its own. The peak is of memory that is the process's alone (Linux: `RssAnon`), above what it
had before; pages of a mapped file, which the system takes back when it needs them, do not count. "Large" are 1,200
images of 2 MB, "many" 444,000 rows (as VQA v2 has) that show 2,000 small images.

- column: `with_pictures`, which looks at no image;
- digests: `image_digests`, which reads all of them;
- check: `bad_images`, which opens all of them (of the large ones, which are no images, none can be).
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from common import Table, main

COLUMNS = ["data", "images", "step", "seconds", "peak MB"]
LARGE, SIZE = 1_200, 2_000_000
ROWS, MANY = 444_000, 2_000
DATA = {
    "large, embedded": f"{LARGE:,} of {SIZE / 1e6:g} MB",
    "large, shuffled": f"{LARGE:,} of {SIZE / 1e6:g} MB",
    "large, files": f"{LARGE:,} of {SIZE / 1e6:g} MB",
    "many, embedded": f"{ROWS:,} rows, {MANY:,} images",
    "many, files": f"{ROWS:,} rows, {MANY:,} images",
}
STEPS = ("column", "digests", "check")


def contents(large: bool) -> Iterator[bytes]:
    """Large ones are noise; small ones, pictures."""
    if large:
        yield from (os.urandom(SIZE) for _ in range(LARGE))
        return
    from PIL import Image

    for number in range(MANY):
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), (number % 256, number // 256, 0)).save(buffer, "PNG")
        yield buffer.getvalue()


def make(folder: Path) -> None:
    """The data sets, saved as people save them."""
    from datasets import Dataset, Features, Image, disable_progress_bars

    disable_progress_bars()
    for size, rows in (("large", LARGE), ("many", ROWS)):
        place = folder / size
        place.mkdir()
        names = []
        for number, data in enumerate(contents(size == "large")):
            names.append(f"{number}.png")
            (place / names[-1]).write_bytes(data)
        order = [number % len(names) for number in range(rows)]
        Dataset.from_dict({"image": [names[number] for number in order]}).save_to_disk(folder / f"{size}, files")

        def values(place: Path = place, names: list[str] = names, order: list[int] = order) -> Iterator[Any]:
            yield from ({"image": {"bytes": (place / names[number]).read_bytes(), "path": None}} for number in order)

        saved = Dataset.from_generator(values, features=Features({"image": Image()}), cache_dir=str(folder / "cache"))
        saved.save_to_disk(folder / f"{size}, embedded")


@contextmanager
def watched() -> Iterator[Callable[[], float]]:
    """How many megabytes the process had at most, above what it has now."""
    process, peak, done = psutil.Process(), [0], threading.Event()

    def own() -> int:
        info = process.memory_info()
        return int(info.rss - info.shared)

    start = own()

    def look() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], own() - start)

    thread = threading.Thread(target=look)
    thread.start()
    yield lambda: peak[0] / 1e6
    done.set()
    thread.join()


def step(folder: Path, name: str, what: str) -> None:
    """One line of the table, in this process."""
    from datasets import load_from_disk

    from fedumm.data.image_digests import bad_images, image_digests
    from fedumm.data.pictures import with_pictures
    from fedumm.data.places import Places

    rows = load_from_disk(str(folder / name.replace("shuffled", "embedded")))
    if "shuffled" in name:
        rows = rows.shuffle(seed=0, keep_in_memory=True)
    places = Places(folder / name.split(",")[0])
    warm, _ = with_pictures(rows.select([0]), places, name)
    image_digests(warm)
    with watched() as peak:
        start = time.monotonic()
        found, _ = with_pictures(rows, places, name)
        if what == "digests":
            image_digests(found)
        if what == "check":
            bad_images(found)
        print(f"{time.monotonic() - start:.1f} {peak():.0f}")


def run() -> list[Table]:
    lines = []
    with tempfile.TemporaryDirectory() as name:
        make(Path(name))
        for data, images in DATA.items():
            for what in STEPS:
                command = [sys.executable, __file__, name, data, what]
                said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                seconds, peak = said.split()[-2:]
                lines.append([data, images, what, seconds, peak])
    return [Table("Looking at images", COLUMNS, lines)]


if __name__ == "__main__":
    if sys.argv[1:]:
        step(Path(sys.argv[1]), *sys.argv[2:4])
    else:
        main("images", __doc__, run)
