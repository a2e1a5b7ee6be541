"""COCO's captions, Karpathy's splits and Flickr30k: pictures with several captions, of which none is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedumm.data import DataRequest
from fedumm.data.folder import load_folder
from fedumm.errors import FedummError
from support.layouts import listing, load, pictures, reds, write

DRAW: dict[str, Any] = {"columns": ("image", "caption"), "mix": {"t2i": 1}}


def raw(folder: Path, part: str = "train") -> list[dict[str, Any]]:
    """Raw rows, before captions become rows."""
    rows = getattr(load_folder(folder, DataRequest()), part)
    return [{name: row[name] for name in ("image", "image_id", "captions")} for row in rows.to_list()]


def coco(folder: Path, place: str = "annotations", year: int = 2017) -> Path:
    for subset, images in ((f"train{year}", (9, 25, 30)), (f"val{year}", (139,))):
        # Captions are not in the order of the images; the last image has none.
        captions = [
            {"image_id": image, "id": 10 * image + i, "caption": f"picture {image}, said {i}"}
            for i in range(5)
            for image in reversed(images)
            if image != 30
        ]
        listed = [{"id": image, "file_name": f"{image:012d}.jpg", "height": 4, "width": 6} for image in images]
        content = {"info": {}, "images": listed, "licenses": [], "annotations": captions}
        write(folder / place / f"captions_{subset}.json", content)
        write(folder / place / f"instances_{subset}.json", {"images": listed, "annotations": [], "categories": []})
        pictures(folder / subset, [f"{image:012d}.jpg" for image in images], 1 if len(images) > 1 else 5)
    return folder


@pytest.mark.parametrize("place", ["", "annotations"])
def test_coco_captions(tmp_path: Path, place: str) -> None:
    folder = coco(tmp_path / "data", place)
    before = listing(folder)
    splits = load(folder, tmp_path / "cache", **DRAW)
    assert raw(folder) == [
        {
            "image": f"train2017/{image:012d}.jpg",
            "image_id": image,
            "captions": [f"picture {image}, said {i}" for i in range(5)],
        }
        for image in (9, 25)
    ]
    assert len(raw(folder, "eval")[0]["captions"]) == 5
    assert (set(reds(splits.train)), set(reds(splits.eval))) == ({1, 2}, {5})
    assert set(splits.train["caption"]) <= {f"picture {image}, said {i}" for image in (9, 25) for i in range(5)}
    assert listing(folder) == before


def test_coco_captions_of_two_years_are_an_error(tmp_path: Path) -> None:
    folder = coco(coco(tmp_path / "data"), year=2014)
    with pytest.raises(FedummError, match="keep those of one year"):
        load(folder, tmp_path / "cache", **DRAW)


def karpathy(folder: Path, name: str) -> Path:
    """As ``dataset_coco.json``, or as ``dataset_flickr30k.json``."""
    images = []
    for number, split in enumerate(("train", "restval", "val", "test")):
        entry: dict[str, Any] = {"imgid": number, "split": split, "filename": f"{number}.jpg", "sentids": [1, 2]}
        if name == "dataset_coco.json":
            entry |= {"filepath": "val2014", "cocoid": 1000 + number}
        entry["sentences"] = [
            {"tokens": ["a", "dog"], "raw": f"A dog, {split} {i}.", "imgid": number, "sentid": i} for i in range(5)
        ]
        images.append(entry)
        pictures(folder / ("val2014" if name == "dataset_coco.json" else "flickr30k-images"), [f"{number}.jpg"], number)
    write(folder / name, {"images": images, "dataset": "coco"})
    return folder


@pytest.mark.parametrize(("name", "first"), [("dataset_coco.json", 1000), ("dataset_flickr30k.json", 0)])
def test_karpathys_splits(tmp_path: Path, name: str, first: int) -> None:
    folder = karpathy(tmp_path / "data", name)
    assert [row["image_id"] for row in raw(folder)] == [first, first + 1]
    assert raw(folder, "eval")[0]["captions"] == [f"A dog, val {i}." for i in range(5)]
    splits = load(folder, tmp_path / "cache", **DRAW)
    assert (set(reds(splits.train)), set(reds(splits.eval))) == ({0, 1}, {2})
    tested = load(folder, tmp_path / "cache", eval_split="test", **DRAW)
    assert set(reds(tested.eval)) == {3}


# Quotes, commas and bars as they are in Kaggle's file, and the line of it that lacks a bar.
RESULTS = """image_name| comment_number| comment
7.jpg| 0| Two young guys, with "shaggy" hair .
7.jpg| 1| A man's "hands
7.jpg| 4   A dog runs across the grass .
8.jpg| 0| A | in it
"""
TOKENS = """7.jpg#0\tTwo young guys, with "shaggy" hair .
7.jpg#1\tA man's "hands
7.jpg#2\tA dog runs across the grass .
8.jpg#0\tA | in it
"""
CAPTIONS = {"7.jpg": ['Two young guys, with "shaggy" hair .', "A man's \"hands", "A dog runs across the grass ."]}
CAPTIONS["8.jpg"] = ["A | in it"]


@pytest.mark.parametrize(
    ("file", "content"),
    [("results.csv", RESULTS), ("flickr30k_images/results.csv", RESULTS), ("results_20130124.token", TOKENS)],
)
@pytest.mark.parametrize("place", ["flickr30k_images", "flickr30k_images/flickr30k_images", "my pictures"])
def test_flickr30k(tmp_path: Path, file: str, content: str, place: str) -> None:
    folder = tmp_path / "data"
    write(folder / file, content)
    pictures(folder / place, ["7.jpg", "8.jpg"], 7)
    assert {row["image_id"]: row["captions"] for row in raw(folder)} == CAPTIONS
    assert [row["image"] for row in raw(folder)] == [f"{place}/7.jpg", f"{place}/8.jpg"]
    assert load_folder(folder, DataRequest()).eval is None


def test_a_line_of_flickr30k_that_says_nothing_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "results.csv", RESULTS + "9.jpg, 0, a cat\n")
    with pytest.raises(FedummError, match=r"results.csv, line 6: no image, number and caption"):
        load_folder(tmp_path, DataRequest())
