"""A picture goes where its row goes: through what ``datasets`` does to rows, and to processes, however started."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, Features, concatenate_datasets, load_from_disk
from PIL import Image
from torch.utils.data import DataLoader

from fedumm.data import read_image
from fedumm.data.picture import BadImageError
from fedumm.data.picture_feature import Picture
from fedumm.data.pictures import with_pictures
from fedumm.data.places import Places
from fedumm.errors import FedummError
from support.pictures import encoded, noise

TURNED = Image.Exif()
TURNED[Image.ExifTags.Base.Orientation] = 6
PICTURES = [noise(seed=seed) for seed in range(4)]
FILES = [encoded(picture, exif=TURNED) for picture in PICTURES]
SHOWN = [picture.transpose(Image.Transpose.ROTATE_270).tobytes() for picture in PICTURES]
"""As the reader turns them; ``datasets`` does so too, but knows nothing of places, wide greys or transparency."""


@pytest.fixture
def rows(tmp_path: Path) -> Any:
    """Two embedded images, and two in files with relative names, in a data set that is mapped into memory."""
    values = [{"bytes": data, "path": None} for data in FILES[:2]]
    for number, data in enumerate(FILES[2:], start=2):
        (tmp_path / f"{number}.png").write_bytes(data)
        values.append({"bytes": None, "path": f"{number}.png"})
    Dataset.from_dict({"image": values, "n": list(range(4))}).save_to_disk(tmp_path / "data")
    found, bad = with_pictures(load_from_disk(str(tmp_path / "data")), Places(tmp_path), "x")
    assert not bad
    return found


CHANGES: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda rows: rows,
    "select": lambda rows: rows.select([3, 1]),
    "slice": lambda rows: rows.select(range(1, 4)).select([2, 0]),
    "shuffle": lambda rows: rows.shuffle(seed=3, keep_in_memory=True),
    "concatenate": lambda rows: concatenate_datasets([rows.select([2]), rows]),
    "add column": lambda rows: rows.add_column("more", list("abcd")),
    "columns": lambda rows: rows.select_columns(["image", "n"]),
    "format": lambda rows: rows.with_format("torch", columns=["n"], output_all_columns=True),
    "pickle": lambda rows: pickle.loads(pickle.dumps(rows.select([1, 2]))),
    "split": lambda rows: rows.train_test_split(0.5, shuffle=False)["test"],
}


@pytest.mark.parametrize("change", CHANGES)
def test_rows_keep_their_pictures(change: str, rows: Any) -> None:
    changed = CHANGES[change](rows)
    assert isinstance(changed.features["image"], Picture)
    for row, number in enumerate(changed["n"][:]):
        assert read_image(changed, row).tobytes() == SHOWN[int(number)]
        if change != "format":
            assert changed[row]["image"].tobytes() == SHOWN[int(number)]


class Pixels(torch.utils.data.Dataset[bytes]):
    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> bytes:
        own: bytes = self.rows[row]["image"].tobytes()
        assert read_image(self.rows, row).tobytes() == own
        return own


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_see_the_same(start: str, rows: Any) -> None:
    loader = DataLoader(Pixels(rows.select([3, 0, 2, 1])), None, num_workers=1, multiprocessing_context=start)
    assert list(loader) == [SHOWN[number] for number in (3, 0, 2, 1)]


def test_places_are_heeded_when_a_file_is_read(rows: Any, tmp_path: Path) -> None:
    """Not only when the rows were made: a link may lead elsewhere by then."""
    (tmp_path.parent / f"{tmp_path.name}.secret").write_bytes(FILES[0])
    (tmp_path / "3.png").unlink()
    (tmp_path / "3.png").symlink_to(tmp_path.parent / f"{tmp_path.name}.secret")
    with pytest.raises(BadImageError, match="outside"):
        read_image(rows, 3)


def test_a_users_own_rows_are_read_too(tmp_path: Path) -> None:
    features = Features({"image": Picture()})
    (tmp_path / "a.png").write_bytes(FILES[1])
    rows = Dataset.from_dict({"image": [str(tmp_path / "a.png"), PICTURES[0]]}, features=features)
    assert read_image(rows, 0).tobytes() == SHOWN[1]
    assert rows[1]["image"].tobytes() == PICTURES[0].tobytes()


def test_a_bad_image_is_named_on_one_line() -> None:
    rows = Dataset.from_dict({"image": [b"no\nimage", FILES[0]], "image_id": ["a\nb", "c"]})
    with pytest.raises(FedummError, match=r"^The image of row 0 \(image_id a\\nb\) can't be read: ") as caught:
        read_image(rows, 0)
    assert "\n" not in str(caught.value)


def test_places_are_the_same_after_a_journey(tmp_path: Path) -> None:
    places = Places(tmp_path, (tmp_path / "a", tmp_path / "b"), (tmp_path / "c",), ("hf://x/",), True)
    assert Places.from_json(places.as_json()) == places
    assert Places.from_json(Places().as_json()) == Places()
