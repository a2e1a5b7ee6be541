"""Which images are the same, and which can't be read: each looked at once, a bounded number of bytes at a time."""

from __future__ import annotations

import base64
import hashlib
import io
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, concatenate_datasets
from hypothesis import given, settings
from hypothesis import strategies as st

import fedumm.data.image_digests as module
from fedumm.data.image_digests import bad_images, fewest_images, image_digests
from fedumm.data.pictures import with_pictures
from fedumm.data.places import Places
from support.pictures import encoded, noise

FILES = [encoded(noise(20, 20, seed)) for seed in range(4)]
SUMS = [hashlib.sha256(data).hexdigest() for data in FILES]


def embedded(data: list[bytes]) -> Any:
    return with_pictures(Dataset.from_dict({"image": data}), Places(), "x")[0]


def named(folder: Path, names: list[str]) -> Any:
    return with_pictures(Dataset.from_dict({"image": names}), Places(folder), "x")[0]


def test_equal_content_has_one_digest_wherever_it_lies(tmp_path: Path) -> None:
    for name, data in {"a.png": FILES[0], "copy.png": FILES[0], "b.png": FILES[1]}.items():
        (tmp_path / name).write_bytes(data)
    texts = [base64.b64encode(FILES[2]).decode(), f"data:image/png;base64,{base64.b64encode(FILES[1]).decode()}"]
    assert image_digests(named(tmp_path, ["a.png", "copy.png", "b.png", *texts])) == [SUMS[i] for i in (0, 0, 1, 2, 1)]
    lists = with_pictures(Dataset.from_dict({"image": [[FILES[3]], [FILES[0]]]}), Places(), "x")[0]
    assert image_digests(lists) == [SUMS[3], SUMS[0]]
    assert image_digests(Dataset.from_dict({"image": FILES})) == SUMS, "of a user's own rows, too"


def test_some_of_the_rows_may_be_asked_for() -> None:
    rows = embedded(FILES).select([3, 2, 1, 0])
    told: list[tuple[str, int, int]] = []
    assert image_digests(rows, lambda *step: told.append(step), [3, 1, 1]) == [SUMS[0], SUMS[2], SUMS[2]]
    assert told[-1][1:] == (3, 3)
    assert image_digests(rows, numbers=[]) == []


def test_each_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, data in enumerate(FILES):
        (tmp_path / f"{number}.png").write_bytes(data)
    read: Counter[Any] = Counter()
    real = module.digest
    monkeypatch.setattr(module, "digest", lambda image: read.update([image]) or real(image))
    assert image_digests(named(tmp_path, ["1.png", "0.png", "1.png", "1.png"])) == [SUMS[i] for i in (1, 0, 1, 1)]
    assert set(read.values()) == {1}
    assert len(read) == 2


def test_what_cannot_be_had_is_like_nothing_else(tmp_path: Path) -> None:
    rows = Dataset.from_dict({"image": [{"bytes": None, "path": "gone.png"}, None, None]})
    first, second = (image_digests(named_rows) for named_rows in (rows, rows))
    assert len({*first, *second}) == 6


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.randoms())
@settings(max_examples=15, deadline=None)
def test_images_are_read_a_bounded_number_of_bytes_at_a_time(sizes: list[int], order: Any) -> None:
    """However large they are, and in whatever order the rows come."""
    data = [bytes([number]) * size for number, size in enumerate(sizes)]
    numbers = list(range(len(sizes)))
    order.shuffle(numbers)
    rows = concatenate_datasets([Dataset.from_dict({"image": [value]}) for value in data]).select(numbers)
    done = [0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "READ", 64)
        keys = image_digests(rows, lambda _, now, total: done.append(now))
    assert keys == [hashlib.sha256(data[number]).hexdigest() for number in numbers]
    for start, stop in pairwise(done):
        assert stop - start == 1 or sum(sizes[number] for number in numbers[start:stop]) <= 64


def test_all_bad_images_are_found_and_each_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "good.png").write_bytes(FILES[0])
    (tmp_path / "cut.png").write_bytes(FILES[1][:-40])
    names = ["good.png", "cut.png", "good.png", "cut.png", "gone.png"]
    opened: list[Any] = []
    real = module.opened
    monkeypatch.setattr(module, "opened", lambda image: opened.append(image) or real(image))
    rows = concatenate_datasets([named(tmp_path, names), named(tmp_path, ["good.png"])])
    bad = bad_images(rows)
    assert list(bad) == [1, 3, 4]
    assert bad[1] == bad[3]
    assert "no such file" in bad[4]
    assert sorted(Path(image).name for image in opened) == ["cut.png", "good.png"]
    assert bad_images(rows, numbers=[5, 3]) == {3: bad[3]}
    mixed = embedded([FILES[0], b"x", FILES[2], b"x", b""])
    assert list(bad_images(mixed)) == [1, 3, 4]


@given(st.lists(st.lists(st.integers(0, 5), max_size=6), min_size=1, max_size=3))
@settings(max_examples=15, deadline=None)
def test_there_are_never_fewer_images_than_said(parts: list[list[int]]) -> None:
    data = [b"a", b"b", b"cc", b"dd", b"eee", b"ffff"]
    rows = [Dataset.from_dict({"image": [data[number] for number in part]}) for part in parts if part]
    assert fewest_images(rows) <= max(1, len({number for part in parts for number in part}))


def test_images_of_different_sizes_are_counted_without_reading_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(bytes(100 + number))
    rows = [named(tmp_path, [f"{number}.png" for number in (0, 1, 1, 2, 3, 4)]), embedded([bytes(100), bytes(200)])]
    monkeypatch.setattr(io, "open", None)
    monkeypatch.setattr(module, "content", None)
    assert fewest_images(rows) == 6
