"""Where features go is weighed: encoding against reading, by how often they are needed; and against a ceiling."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from features.test_cache import CPU, Pictures, Stage, check, fill, shards
from fedumm.errors import FedummError
from fedumm.features import on_disk, weigh
from fedumm.features.cache import cache_features
from fedumm.features.options import CacheOptions
from fedumm.features.report import CacheReport
from fedumm.features.weigh import Speed


@pytest.fixture(autouse=True)
def always_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_disk, "WEIGHED", 0)
    monkeypatch.setattr(weigh, "_PROBE", 2**16)


def weighed(
    folder: Path,
    *pictures: Pictures,
    passes: list[float],
    stage: Stage | None = None,
    mode: str = "auto",
    gb: float = 1,
) -> CacheReport:
    options = CacheOptions(mode, int(gb * 1e9), folder)
    return cache_features((stage or Stage()).frozen, pictures, options, CPU, lambda *_: None, passes=passes)


def test_the_sum_that_is_weighed() -> None:
    """100 images of which 40 are there, needed 1,000 times: 60 x (2 + 1) + 1000 x 0.5 against 1000 x 2 seconds."""
    assert Speed(2.0, 1.0, 0.5).seconds(60, 1000) == (680.0, 2000.0)
    told = Speed(2.0, 1.0, 0.0125).told(100, 1250)
    assert told == "an image takes 2.0 s to encode here and its features 12.5 ms to read, each about 12.5 times"


def test_a_slow_tower_is_worth_a_cache_on_disk(tmp_path: Path) -> None:
    stage, data, other = Stage(seconds=0.05), Pictures([1, 2, 1]), Pictures([2, 3])
    report = weighed(tmp_path, data, other, passes=[10, 3], stage=stage)
    assert (report.kept, report.images, report.computed) == ("disk", 3, 3)
    assert "each about 12.0 times" in report.note, "(3 x 10 + 2 x 3) / 3 images"
    assert report.describe().endswith("times)")
    check(data)
    check(other)


def test_a_slow_disk_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pread

    def slow(*given: Any) -> bytes:
        time.sleep(0.002)
        return real(*given)

    monkeypatch.setattr(os, "pread", slow)
    monkeypatch.setattr(weigh, "_PROBE", 2**9)
    data = Pictures([1, 2])
    report = weighed(tmp_path, data, passes=[100])
    assert report.kept == "memory"
    assert f"reading them from {tmp_path} would take longer" in report.note
    check(data)
    report = weighed(tmp_path, Pictures([1, 2]), passes=[100], gb=1e-9)
    assert report.kept == ""
    assert "would take longer" in report.describe()
    assert "--feature_cache_gb" in report.describe()
    assert not shards(tmp_path)
    assert weighed(tmp_path, Pictures([1, 2]), passes=[100], mode="disk").kept == "disk", "as it was asked for"


def test_features_that_are_needed_once_are_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weigh, "measure", lambda *_: Speed(1.0, 0.1, 0.1))
    assert weighed(tmp_path, Pictures([1, 2]), passes=[1]).kept == "memory"
    assert weighed(tmp_path, Pictures([1, 2]), passes=[2]).kept == "disk"
    assert weighed(tmp_path, Pictures([1, 2]), passes=[1]).kept == "disk", "they are there by now"


@pytest.mark.parametrize("known", [False, True])
def test_few_features_are_kept_without_weighing(known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below a gigabyte, as of the shipped models, and where it is not known how often they are needed."""

    def no(*_: Any) -> Speed:
        raise AssertionError("it was measured")

    monkeypatch.setattr(weigh, "measure", no)
    if known:
        monkeypatch.setattr(on_disk, "WEIGHED", weigh.WEIGHED)
    report = weighed(tmp_path, Pictures([1, 2]), passes=[10] if known else [])
    assert report == CacheReport("test", "disk", 2 * 24, 2, 2)


def test_what_was_measured_holds_for_hosts_that_start_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(weigh, "measure", lambda *_: calls.append(1) or Speed(1.0, 0.1, 0.1))
    for _ in range(3):
        weighed(tmp_path, Pictures([1, 2]), passes=[0.1])
    assert len(calls) == 1
    (file,) = tmp_path.rglob("speed.json")
    good = json.loads(file.read_text())
    others = [{"time": good["time"] - 4000}, {"machine": "another"}, {"read": "fast"}, {"encode": -1.0}, {"read": None}]
    for changed in [*others, {"time": good["time"] + 4000}]:
        file.write_text(json.dumps(good | changed))
        before = len(calls)
        weighed(tmp_path, Pictures([1, 2]), passes=[0.1])
        assert len(calls) == before + 1, changed
    file.write_text("[1")
    assert weighed(tmp_path, Pictures([1, 2]), passes=[10]).kept == "disk"
    file.unlink()
    assert weighed(tmp_path, Pictures([1, 2]), passes=[0.1]).kept == "disk"
    assert not file.exists(), "nothing is missing, and nothing weighed"


def test_measuring_counts_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    stage = Stage()
    assert weighed(tmp_path, Pictures(range(70)), passes=[1e9], stage=stage).computed == 70
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {".json", ".safetensors", ".use"}


def test_the_ceiling_counts_all_that_is_in_the_cache(tmp_path: Path) -> None:
    fill(tmp_path, Pictures(range(64)), stage=Stage(settings="another"))
    there = sum(path.stat().st_size for path in shards(tmp_path))
    need = 2 * 24
    assert fill(tmp_path, Pictures([1, 2]), disk_bytes=there + need).kept == "disk"
    there = sum(path.stat().st_size for path in shards(tmp_path))
    with pytest.raises(FedummError, match=r"0\.0 GB are left of --feature_cache_disk_gb .*fedumm cache"):
        fill(tmp_path, Pictures([1, 3]), disk_bytes=there + 23)
    report = fill(tmp_path, Pictures([1, 3]), mode="auto", disk_bytes=there + 23)
    assert report.kept == "memory"
    assert "--feature_cache_disk_gb" in report.note
    assert fill(tmp_path, Pictures([1, 2]), disk_bytes=1).computed == 0, "what is there needs no room"
