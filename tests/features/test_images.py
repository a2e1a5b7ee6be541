"""Images are read when there is room for their features, and what can't be read is told all at once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from fedumm.backends.feature_table import FeatureTable
from fedumm.backends.protocol import FrozenStage
from fedumm.data import read_image
from fedumm.data.picture import BadImageError
from fedumm.errors import FedummError
from fedumm.features import images
from fedumm.features.cache import cache_features
from fedumm.features.options import CacheOptions
from fedumm.features.report import CacheReport
from support.pictures import encoded, noise

CPU = torch.device("cpu")
MODULE = torch.nn.Linear(1, 1)
FILES = [encoded(noise(8 + size, 8)) for size in range(6)]
"""Of different sizes, so that they are known to be different ones."""


class Pictures:
    def __init__(self, data: list[bytes]) -> None:
        names = [hashlib.sha256(value).hexdigest()[:4] for value in data]
        self.rows = Dataset.from_dict({"image": data, "image_id": names})
        self.features: FeatureTable | None = None

    def pixels(self, rows: Any) -> torch.Tensor:
        corners = [read_image(self.rows, row).getpixel((0, 0)) for row in rows]
        return torch.tensor(corners, dtype=torch.float32)[:, :, None, None]


def fill(folder: Path, *datasets: Pictures, mode: str = "disk", bytes_: int = 0) -> CacheReport:
    stage = FrozenStage("test", MODULE, lambda pixels: pixels.mean((2, 3)), "{}")
    options = CacheOptions(mode, bytes_, folder)
    return cache_features(stage, datasets, options, CPU, lambda *_: None, ["training", "evaluation"][: len(datasets)])


def test_no_image_is_read_if_there_is_no_room_for_its_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_: Any) -> list[str]:
        raise AssertionError("images were read")

    (tmp_path / "file").touch()
    size = 3 * 4
    with monkeypatch.context() as patch:
        patch.setattr(images, "image_digests", no)
        report = fill(tmp_path / "file", Pictures(FILES), mode="auto", bytes_=6 * size - 1)
        assert not report.kept
        assert "at least 6 images" in report.note
        with pytest.raises(FedummError, match="--feature_cache_gb"):
            fill(tmp_path, Pictures(FILES), mode="memory", bytes_=6 * size - 1)
        with pytest.raises(FedummError, match="--feature_cache_dir"):
            fill(tmp_path / "file", Pictures(FILES))
    assert fill(tmp_path, Pictures(FILES), mode="memory", bytes_=6 * size).kept == "memory"


def test_what_others_stored_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fill(tmp_path, Pictures(FILES)).computed == 6
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 0}))
    assert fill(tmp_path, Pictures(FILES[::-1]), mode="auto").kept == "disk"
    assert fill(tmp_path, Pictures(FILES), Pictures([encoded(noise(30, 30))]), mode="auto").kept == ""


def test_all_bad_images_are_told_at_once_with_split_and_row(tmp_path: Path) -> None:
    train = Pictures([FILES[0], FILES[1][:-30], FILES[2], b"x", b"x"])
    test = Pictures([FILES[0], b""])
    for mode in ("disk", "memory"):
        with pytest.raises(BadImageError) as caught:
            fill(tmp_path, train, test, mode=mode, bytes_=10**6)
        message = str(caught.value)
        assert "4 rows" in message
        assert "--skip_bad 4" in message
        ids = train.rows["image_id"][:]
        cut, junk = f"1 (image_id {ids[1]})", f"3 (image_id {ids[3]}), 4 (image_id {ids[4]})"
        assert f"training row {cut}: " in message
        assert f"training rows {junk}: " in message
        assert f"evaluation row 1 (image_id {test.rows['image_id'][1]}): " in message
        assert message.count("image_id") == 4


def test_of_many_bad_images_twenty_are_told(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match=r"The images of 50 rows .*; and 30 rows more\.$") as caught:
        fill(tmp_path, Pictures([b"x"] * 50))
    assert str(caught.value).count("image_id") == 20


def test_one_bad_image_is_told_in_the_same_way(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match=r"--skip_bad 1\. training row 1 \(image_id \w+\): "):
        fill(tmp_path, Pictures([FILES[0], b"x"]))
