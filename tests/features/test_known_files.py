"""Image files that have not changed are not read again; those that have are, and nobody else's word is taken for it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from fedumm.backends.feature_table import FeatureTable
from fedumm.backends.protocol import FrozenStage
from fedumm.data import picture_content, read_image
from fedumm.features import known_files
from fedumm.features.cache import cache_features
from fedumm.features.known_files import KnownFiles
from fedumm.features.options import CacheOptions
from fedumm.features.report import CacheReport
from fedumm.features.rights import Rights
from support.pictures import encoded, noise

MODULE = torch.nn.Linear(1, 1)


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are taken to be old enough as soon as they are written."""
    monkeypatch.setattr(known_files, "_SETTLED", -1.0)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose content was digested."""
    names: list[str] = []
    real = picture_content._blocks

    def blocks(place: str) -> Any:
        names.append(Path(place).name)
        return real(place)

    monkeypatch.setattr(picture_content, "_blocks", blocks)
    return names


class Pictures:
    def __init__(self, files: list[Path]) -> None:
        self.rows = Dataset.from_dict({"image": list(map(str, files))})
        self.features: FeatureTable | None = None

    def pixels(self, rows: Any) -> torch.Tensor:
        corners = [read_image(self.rows, row).getpixel((0, 0)) for row in rows]
        return torch.tensor(corners, dtype=torch.float32)[:, :, None, None]


def fill(cache: Path, files: list[Path], mode: str = "disk") -> tuple[CacheReport, list[float]]:
    stage = FrozenStage("test", MODULE, lambda pixels: pixels[:, 0, :, 0], "{}")
    data = Pictures(files)
    options = CacheOptions(mode, 10**9, cache)
    report = cache_features(stage, [data], options, torch.device("cpu"), lambda *_: None)
    assert data.features is not None
    return report, [data.features.of(row).item() for row in range(len(files))]


def pictures(folder: Path, count: int = 3) -> list[Path]:
    folder.mkdir()
    files = [folder / f"{number}.png" for number in range(count)]
    for number, file in enumerate(files):
        file.write_bytes(encoded(noise(8, 8, number)))
    return files


def corner(file: Path) -> float:
    from PIL import Image

    with Image.open(file) as image:
        return float(image.convert("RGB").getpixel((0, 0))[0])  # type: ignore[index]


def test_a_second_start_reads_only_what_changed(tmp_path: Path, read: list[str]) -> None:
    cache, files = tmp_path / "cache", pictures(tmp_path / "images")
    fill(cache, [*files, files[0]])
    assert sorted(read) == ["0.png", "1.png", "2.png"], "each once"
    read.clear()
    assert fill(cache, files)[0].computed == 0
    assert not read
    files[1].write_bytes(encoded(noise(8, 8, 77)))
    report, corners = fill(cache, files)
    assert (read, report.computed) == (["1.png"], 1)
    assert corners == list(map(corner, files))
    read.clear()
    fill(cache, files)
    assert not read


def touched_back(file: Path) -> None:
    """Other content of the same size, and the time of the content put back: as copying programs do."""
    status, size = file.stat(), file.stat().st_size
    file.write_bytes(file.read_bytes()[: size - 1] + b"!")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def renamed_over(file: Path) -> None:
    other = file.with_suffix(".new")
    other.write_bytes(file.read_bytes())
    other.replace(file)


@pytest.mark.parametrize("change", [touched_back, renamed_over, lambda file: file.chmod(0o600)])
def test_whatever_may_have_changed_is_read(change: Callable[[Path], Any], tmp_path: Path, read: list[str]) -> None:
    cache, files = tmp_path / "cache", pictures(tmp_path / "images")
    fill(cache, files)
    read.clear()
    time.sleep(0.02)  # a time stamp of its own
    change(files[2])
    fill(cache, files)
    assert read == ["2.png"]


def test_what_was_written_a_moment_ago_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may change once more with the same time stamp; nor what changed while it was read."""
    (file,) = pictures(tmp_path / "images", 1)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(known_files, "_SETTLED", 3600.0)
    known = KnownFiles(tmp_path, Rights())
    assert str(file) not in known
    known[str(file)] = digest
    known.save()
    assert str(file) not in KnownFiles(tmp_path, Rights())
    monkeypatch.setattr(known_files, "_SETTLED", -1.0)
    known = KnownFiles(tmp_path, Rights())
    assert str(file) not in known
    file.write_bytes(b"while it was read")
    known[str(file)] = digest
    known.save()
    assert str(file) not in KnownFiles(tmp_path, Rights())


def others(path: Path) -> None:
    path.chmod(0o666)


def forged(path: Path) -> None:
    path.write_text("[" * 100_000)


@pytest.mark.parametrize(
    "spoil",
    [
        others,
        forged,
        lambda path: path.write_text("[]"),
        lambda path: path.write_text(json.dumps({name: [1, 2, 3, "x"] for name in json.loads(path.read_text())})),
        lambda path: path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), 7))),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: path.unlink(),
    ],
)
def test_an_index_that_is_not_ours_or_not_sound_is_not_used(
    spoil: Callable[[Path], Any], tmp_path: Path, read: list[str]
) -> None:
    cache, files = tmp_path / "cache", pictures(tmp_path / "images")
    fill(cache, files)
    read.clear()
    spoil(cache / known_files.FILE)
    assert fill(cache, files)[0].computed == 0
    assert len(read) == 3
    read.clear()
    fill(cache, files)
    assert not read


def test_processes_add_to_one_index_and_no_path_is_in_it(tmp_path: Path) -> None:
    files = pictures(tmp_path / "images")
    digests = {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    both = [KnownFiles(tmp_path, Rights()) for _ in range(2)]
    for known, path in zip(both, digests, strict=False):
        assert path not in known
        known[path] = digests[path]
    for known in both:
        known.save()
    known = KnownFiles(tmp_path, Rights())
    assert [path for path in digests if path in known] == list(digests)[:2]
    assert {path: known[path] for path in known} == {path: digests[path] for path in list(digests)[:2]}
    assert ".png" not in (tmp_path / known_files.FILE).read_text()
    assert "https://example.org/a.png" not in known
    assert str(tmp_path / "nowhere.png") not in known


def test_a_cache_in_memory_writes_no_index(tmp_path: Path, read: list[str]) -> None:
    files = pictures(tmp_path / "images")
    for _ in range(2):
        fill(tmp_path / "cache", files, mode="memory")
    assert len(read) == 6
    assert not (tmp_path / "cache").exists()
