"""Pictures that a table calls by bare names are found anywhere below its folder, and never mistaken."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest

from fedumm.data.layouts.errors import LayoutError
from fedumm.data.layouts.pictures import PictureFolders
from support.layouts import png, write


def completed(base: Path, names: list[str | None], files: Mapping[str, str] | list[str], split: str = "") -> list[str]:
    for file in files:
        write(base / file, b"")
    folders = PictureFolders(base, ())
    given: list[str] = folders.complete(pa.chunked_array([names], pa.string()), ["", "images"], split).to_pylist()
    return given


def test_they_may_lie_in_several_folders_and_deep(tmp_path: Path) -> None:
    files = ["images/1.png", "a/2.png", "a/b/c/d/3.png", "x/part/4.png", "y/part/5.png"]
    names = ["1.png", "2.png", "3.png", None, "part/4.png", "5.png", "2.png"]
    found = ["images/1.png", "a/2.png", "a/b/c/d/3.png", None, "x/part/4.png", "y/part/5.png", "a/2.png"]
    assert completed(tmp_path, names, files) == found


def test_one_that_two_folders_have_is_an_error_that_names_both(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"the picture '1\.png' is in a/deep and in b: name the folder"):
        completed(tmp_path, ["0.png", "1.png"], ["a/0.png", "a/deep/1.png", "b/1.png"])


def test_a_split_has_its_own_folder(tmp_path: Path) -> None:
    files = ["train/0.png", "test/0.png", "test/1.png"]
    assert completed(tmp_path, ["0.png", "1.png"], files, "testA") == ["test/0.png", "test/1.png"]
    with pytest.raises(LayoutError, match="in test and in train"):
        completed(tmp_path, ["0.png", "1.png"], files)


def test_links_lead_nowhere_else_and_not_round(tmp_path: Path) -> None:
    write(tmp_path / "secret" / "0.png", b"")
    write(tmp_path / "data" / "a" / "1.png", b"")
    (tmp_path / "data" / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "data" / "a" / "round").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "z").symlink_to(tmp_path / "data" / "a")
    given = completed(tmp_path / "data", ["0.png", "1.png"], [])
    assert given[0] == "0.png"
    assert (tmp_path / "data" / given[1]).resolve() == (tmp_path / "data" / "a" / "1.png").resolve()


def test_pictures_that_are_texts_and_full_names_stay(tmp_path: Path) -> None:
    packed = base64.b64encode(png(10)).decode()
    texts = [packed, f"data:image/png;base64,{packed}", "/mnt/0.png", "https://example.org/0.png", "../0.png"]
    given = completed(tmp_path, [*texts, "0.png"], ["images/0.png"])
    assert given == [*texts, "images/0.png"]
