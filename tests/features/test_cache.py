"""The feature cache: each image once, found again, shared, never taken for another, repaired when damaged."""

from __future__ import annotations

import errno
import io
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, Features, Value
from datasets import Image as ImageColumn
from PIL import Image

from fedumm.backends.feature_table import FeatureTable
from fedumm.backends.protocol import FrozenStage
from fedumm.data.image_digests import image_digests
from fedumm.errors import FedummError
from fedumm.features import on_disk, options, store
from fedumm.features.cache import cache_features
from fedumm.features.options import CacheOptions
from fedumm.features.report import CacheReport
from fedumm.features.store import ShardStore

CPU = torch.device("cpu")


def png(colour: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (colour, 255 - colour, 7)).save(file, "PNG")
    return file.getvalue()


class Pictures:
    """Rows with a picture each; ``colours`` says which."""

    def __init__(self, colours: Sequence[int]) -> None:
        features = Features({"image": ImageColumn(), "text": Value("string")})
        images = [{"bytes": png(c), "path": None} for c in colours]
        self.rows = Dataset.from_dict({"image": images, "text": ["x"] * len(images)}, features=features)
        self.colours = list(colours)
        self.features: FeatureTable | None = None
        self.decoded = 0

    def pixels(self, rows: Sequence[int]) -> torch.Tensor:
        self.decoded += len(rows)
        return torch.stack([torch.full((3, 4, 4), float(self.colours[row])) for row in rows])

    def subset(self, rows: Sequence[int]) -> Any:
        return Pictures([self.colours[row] for row in rows])


class Stage:
    """Multiplies by a weight; remembers what it was given."""

    def __init__(self, weight: float = 0.5, settings: str = "{}", seconds: float = 0.0) -> None:
        self.module = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(self.module.weight, weight)
        self.shapes: list[tuple[int, ...]] = []
        self.seconds = seconds
        self.frozen = FrozenStage("test", self.module, self.encode, settings)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds)
        self.shapes.append(tuple(pixels.shape))
        return pixels.mean((1, 2, 3))[:, None, None] * self.module.weight * torch.ones(2, 3)


def fill(
    folder: Path, *datasets: Pictures, stage: Stage | None = None, mode: str = "disk", gb: float = 1.0, **options: Any
) -> CacheReport:
    given = CacheOptions(mode, int(gb * 1e9), folder, **options)
    return cache_features((stage or Stage()).frozen, datasets, given, CPU, lambda *_: None)


def check(dataset: Pictures, weight: float = 0.5) -> None:
    assert dataset.features is not None
    for row, colour in enumerate(dataset.colours):
        assert torch.equal(dataset.features.of(row).float(), torch.full((2, 3), colour * weight))


def shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


@pytest.mark.parametrize("mode", ["auto", "memory", "disk"])
def test_each_distinct_image_is_computed_once_for_all_data_sets(mode: str, tmp_path: Path) -> None:
    a, b = Pictures([1, 2, 1, 3, 2]), Pictures([3, 4, 4, 1])
    stage = Stage()
    report = fill(tmp_path, a, b, stage=stage, mode=mode)
    assert report == CacheReport("test", "memory" if mode == "memory" else "disk", 4 * 6 * 4, 4, 4)
    check(a)
    check(b)
    assert bool(shards(tmp_path)) == (mode != "memory")
    assert len({shape for shape in stage.shapes if shape[0] > 1}) == 1, "always one shape"


def test_the_next_run_finds_all_and_decodes_nothing(tmp_path: Path) -> None:
    colours = list(range(150))
    assert fill(tmp_path, Pictures(colours)).computed == 150
    again, stage = Pictures(colours[::-1]), Stage()
    assert fill(tmp_path, again, stage=stage).computed == 0
    check(again)
    assert not stage.shapes
    assert not again.decoded


def test_only_what_is_new_is_added(tmp_path: Path) -> None:
    fill(tmp_path, Pictures(range(70)))
    more = Pictures([200, *range(40, 100), 201])
    assert fill(tmp_path, more).computed == 32
    check(more)


@pytest.mark.parametrize(
    ("stage", "options", "weight"),
    [
        (Stage(0.25), {}, 0.25),
        (Stage(settings='{"size": 5}'), {}, 0.5),
        (Stage(), {"dtype": torch.float16}, 0.5),
    ],
    ids=["weights", "settings", "dtype"],
)
def test_features_of_another_stage_are_never_taken(
    stage: Stage, options: dict[str, Any], weight: float, tmp_path: Path
) -> None:
    fill(tmp_path, Pictures([1, 2]))
    other = Pictures([1, 2])
    assert fill(tmp_path, other, stage=stage, **options).computed == 2
    check(other, weight)


def test_float16_halves_the_bytes(tmp_path: Path) -> None:
    data = Pictures([1, 2])
    assert fill(tmp_path, data, dtype=torch.float16).bytes == 2 * 6 * 2
    assert data.features is not None
    assert data.features.of(0).dtype == torch.float16


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-7]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no such file at all" * 9),
    ],
    ids=["cut short", "empty", "another file"],
)
def test_damaged_files_are_made_again(damage: Callable[[Path], Any], tmp_path: Path) -> None:
    colours = list(range(100))
    fill(tmp_path, Pictures(colours))
    before = shards(tmp_path)
    damage(before[0])
    data = Pictures(colours)
    report = fill(tmp_path, data)
    check(data)
    assert report.computed in (36, 64), "of one file"
    assert shards(tmp_path) == before
    assert fill(tmp_path, Pictures(colours)).computed == 0


def test_a_bit_that_flipped_is_found_when_its_image_is_asked_for(tmp_path: Path) -> None:
    """Not at the start, which reads no numbers; and its file is made again at that moment, once for all who ask."""
    colours = list(range(100))
    fill(tmp_path, Pictures(colours))
    before = shards(tmp_path)
    for path in before:
        flip(path)
    data, stage, said = Pictures([*colours, 5]), Stage(), list[str]()
    assert fill(tmp_path, data, stage=stage, say=said.append) == CacheReport("test", "disk", 2400, 100, 0)
    assert not stage.shapes
    assert not said
    stage.module.train()
    with torch.inference_mode():
        check(data)
    assert stage.module.training
    assert len(said) == 2
    assert "A file of stored test is damaged. It is removed, and its 64 images are encoded again." in said
    check(data)
    assert data.decoded == 102, "100 images, and the first once more for the size of a batch of each file"
    assert data.features is not None
    assert not data.features.of(0).is_inference(), "it may be trained on"
    again = Pictures(colours)
    assert fill(tmp_path, again, say=said.append).computed == 0
    check(again)
    assert shards(tmp_path) == before
    assert len(said) == 2


def test_what_was_damaged_is_kept_in_memory_where_it_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, Pictures([1, 2, 3]))
    flip(shards(tmp_path)[0])
    data = Pictures([3, 1])
    fill(tmp_path, data)
    monkeypatch.setattr(ShardStore, "write", full)
    check(data)
    assert not shards(tmp_path)


def full(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_an_interrupted_run_leaves_what_it_finished(tmp_path: Path) -> None:
    def stop(text: str, done: int, _: int) -> None:
        if text == "test" and done >= 100:
            raise KeyboardInterrupt

    options = CacheOptions("disk", 0, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        cache_features(Stage().frozen, [Pictures(range(130))], options, CPU, stop)
    assert not list(tmp_path.rglob("*.tmp"))
    data = Pictures(range(130))
    assert fill(tmp_path, data).computed == 130 - 64
    check(data)


def test_hosts_that_start_together_share_the_work(tmp_path: Path) -> None:
    """Three at once, each image computed by one of them; they all see all. Locks are those of processes."""
    hosts = [Pictures(range(256)) for _ in range(3)]
    reports: list[CacheReport] = []
    threads = [
        threading.Thread(target=lambda d=data: reports.append(fill(tmp_path, d, stage=Stage(seconds=0.05))))
        for data in hosts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.computed for report in reports) == 256
    for data in hosts:
        check(data)


def test_the_lock_of_a_dead_process_is_void(tmp_path: Path) -> None:
    fill(tmp_path, Pictures([1, 2]))
    (shard,) = shards(tmp_path)
    shard.unlink()
    shard.with_suffix(".lock").touch()
    assert fill(tmp_path, Pictures([1, 2])).computed == 2


def test_a_claim_that_stands_still_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, Pictures([1, 2]))
    (shard,) = shards(tmp_path)
    shard.unlink()
    monkeypatch.setattr(on_disk, "_PATIENCE", 0.2)
    with ShardStore(shard.parent).claim(shard) as mine:
        assert mine
        data = Pictures([1, 2])
        assert fill(tmp_path, data).computed == 2
    check(data)


def test_a_file_that_cannot_be_read_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files, a stale network mount: nothing that says anything about the content."""
    fill(tmp_path, Pictures([1, 2]))

    def fail(*_: Any) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(store, "safe_open", fail)
        assert fill(tmp_path, Pictures([1, 2]), mode="auto").kept == "memory"
    assert fill(tmp_path, Pictures([1, 2])).computed == 0


def test_a_disk_that_alters_what_is_written_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(99))
    monkeypatch.setattr(store, "checksum", lambda *_: str(next(numbers)))
    data = Pictures([1, 2])
    fill(tmp_path, data)
    with pytest.raises(FedummError, match=r"damaged again .* --feature_cache_dir"):
        check(data)


def test_images_that_cannot_be_found_are_never_stored_as_known(tmp_path: Path) -> None:
    rows = Pictures([1]).rows
    lost = rows.cast_column("image", ImageColumn(decode=False)).map(
        lambda _: {"image": {"bytes": None, "path": "https://nowhere.invalid/a.png"}}
    )
    empty = rows.map(lambda _: {"image": None})
    for data in (lost.cast_column("image", ImageColumn()), empty):
        first, second = (image_digests(data) for _ in range(2))
        assert first != second


def test_without_room_on_disk_memory_is_used_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))  # type: ignore[attr-defined]
    with pytest.raises(FedummError, match=r"can't be kept in .* --feature_cache_dir"):
        fill(tmp_path, Pictures([1, 2]))
    data = Pictures([1, 2])
    report = fill(tmp_path, data, mode="auto")
    assert report.kept == "memory"
    assert "free" in report.note
    check(data)
    data = Pictures([1, 2])
    report = fill(tmp_path, data, mode="auto", gb=1e-9)
    assert report.kept == ""
    assert "--feature_cache_gb" in report.note
    assert report.describe().startswith("test are computed again in each step: ")
    assert data.features is None
    with pytest.raises(FedummError, match="--feature_cache_gb"):
        fill(tmp_path, Pictures([1, 2]), mode="memory", gb=1e-9)


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_is_no_end(reason: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first file; which goes, since it would be of no use to this run, and what others wrote stays."""
    fill(tmp_path, Pictures(range(200, 203)))
    others, real = shards(tmp_path), os.fsync

    def fsync(descriptor: int) -> None:
        if len(shards(tmp_path)) == 2:
            raise OSError(reason, os.strerror(reason))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    data = Pictures(range(130))
    report = fill(tmp_path, data, mode="auto")
    assert report.kept == "memory"
    assert report.computed == 130
    assert os.strerror(reason) in report.describe()
    check(data)
    assert shards(tmp_path) == others
    assert not list(tmp_path.rglob("*.tmp"))
    with pytest.raises(FedummError, match="--feature_cache_dir"):
        fill(tmp_path, Pictures(range(130)))
    assert shards(tmp_path) == others


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FedummError, match="--feature_cache_dir"):
        fill(tmp_path / "file", Pictures([1]))


def test_off_and_no_images(tmp_path: Path) -> None:
    data = Pictures([1])
    assert fill(tmp_path, data, mode="off") == fill(tmp_path) == CacheReport("test")
    assert data.features is None
    assert CacheReport().describe() == ""


def test_the_folder_is_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDUMM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert options.default_folder() == Path("/x/fedumm")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert options.default_folder() == Path.home() / ".cache" / "fedumm"
    monkeypatch.setenv("FEDUMM_CACHE", "/y")
    assert options.default_folder() == Path("/y")
