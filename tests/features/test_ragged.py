"""Features of images that differ in length, and the whole numbers beside them: kept exactly, wherever they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from fedumm.backends.feature_table import Block, FeatureTable
from fedumm.backends.protocol import FrozenStage
from fedumm.errors import FedummError
from fedumm.features.cache import cache_features
from fedumm.features.options import CacheOptions
from fedumm.features.report import CacheReport
from support.feature_files import rewrite

CPU = torch.device("cpu")
MODULE = torch.nn.Linear(1, 1)
WIDTH = 3
Fact = tuple[int, tuple[int, ...]]
"""Of one image: how many features it has, and the numbers beside."""


class Images:
    """Rows that each show the image of their fact; equal facts are the same image."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        self.facts = list(facts)
        self.rows = Dataset.from_dict({"image": [repr(fact).encode() for fact in self.facts]})
        self.features: FeatureTable | None = None

    def pixels(self, rows: Sequence[int]) -> dict[str, Any]:
        (row,) = rows
        return {"fact": self.facts[row], "pixels": torch.zeros(2, row + 1)}


def features_of(fact: Fact) -> torch.Tensor:
    count, numbers = fact
    return torch.arange(count * WIDTH).view(count, WIDTH) / 7 + sum(numbers) % 1000


class Stage:
    """What an any-resolution tower does: as many features as the image has patches, and where they lie."""

    def __init__(self) -> None:
        self.calls = 0
        self.frozen = FrozenStage("test", MODULE, self.encode, "{}", one_by_one=True)

    def encode(self, given: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls += 1
        return features_of(given["fact"]), torch.tensor(given["fact"][1], dtype=torch.int64)


def fill(folder: Path, *data: Images, mode: str = "disk", stage: Stage | None = None, **options: Any) -> CacheReport:
    cache = CacheOptions(mode, 10**9, folder, **options)
    return cache_features((stage or Stage()).frozen, data, cache, CPU, lambda *_: None)


def check(data: Images, dtype: torch.dtype = torch.float32) -> None:
    assert data.features is not None
    for row, fact in enumerate(data.facts):
        assert torch.equal(data.features.of(row), features_of(fact).to(dtype))
        beside = data.features.beside(row)
        assert (beside.tolist(), beside.dtype) == (list(fact[1]), torch.int64)


FACTS: list[Fact] = [(number % 5, (number, 2**60 + number)[: number % 3]) for number in range(100)]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4).map(tuple)),
        min_size=1,
        max_size=70,
    ),
    st.sampled_from(["memory", "disk"]),
)
def test_what_was_put_in_comes_out(facts: list[Fact], mode: str) -> None:
    with TemporaryDirectory() as name:
        first, second = Images(facts), Images(facts[::-1])
        report = fill(Path(name), first, second, mode=mode)
        check(first)
        check(second)
        size = sum(count * WIDTH * 4 + len(numbers) * 8 for count, numbers in set(facts))
        assert report == CacheReport("test", mode, size, len(set(facts)), len(set(facts)))
        if mode == "disk":
            stage, again = Stage(), Images(facts)
            assert fill(Path(name), again, stage=stage).computed == 0
            assert not stage.calls
            check(again)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_only_features_are_rounded(dtype: torch.dtype, tmp_path: Path) -> None:
    data = Images([(2, (2**62 + 1, -5)), (4, ())])
    fill(tmp_path, data, dtype=dtype)
    check(data, dtype)


def test_hosts_that_start_together_share_the_work(tmp_path: Path) -> None:
    hosts = [Images(FACTS) for _ in range(3)]
    reports: list[CacheReport] = []
    threads = [threading.Thread(target=lambda d=data: reports.append(fill(tmp_path, d))) for data in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.computed for report in reports) == len(set(FACTS))
    for data in hosts:
        check(data)


def flip(name: str) -> Callable[[dict[str, torch.Tensor]], Any]:
    """Another number in one tensor, whose checksum stays."""

    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name].view(-1)[3] += 1

    return change


def moved(tensors: dict[str, torch.Tensor]) -> None:
    """From one image to the next, the sum being right."""
    tensors["lengths"][1] += 1
    tensors["lengths"][2] -= 1


CHANGES: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any], bool]] = {
    **{name: (flip(name), False) for name in ("features", "beside")},
    "a length moved": (moved, False),
    "lengths too large": (flip("lengths"), True),
    "lengths below nothing": (lambda t: t["lengths"].copy_(t["lengths"] * -1), True),
    "beside too short": (lambda t: t.update(beside=t["beside"][:-1]), True),
    "no numbers beside": (lambda t: (t.pop("beside"), t.pop("beside_lengths")), True),
    "other whole numbers": (lambda t: t.update(beside=t["beside"].int()), True),
    "wide": (lambda t: t.update(features=torch.cat([t["features"]] * 2, -1)), True),
    "a tensor more": (lambda t: t.update(more=torch.zeros(1)), True),
}


@pytest.mark.parametrize(("change", "summed"), CHANGES.values(), ids=CHANGES.keys())
def test_what_does_not_fit_is_made_again(change: Callable[[Any], Any], summed: bool, tmp_path: Path) -> None:
    """``summed``: by somebody who gets the checksums right. That is seen when the file is opened, the others when an
    image is asked for."""
    fill(tmp_path, Images(FACTS))
    rewrite(sorted(tmp_path.rglob("*.safetensors"))[0], change, summed=summed)
    data, stage = Images(FACTS), Stage()
    assert fill(tmp_path, data, stage=stage).remade == summed
    check(data)
    assert stage.calls
    assert fill(tmp_path, Images(FACTS)).computed == 0


def test_room_is_estimated_from_the_first_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 features each, so 1.2 kB: ten need 12 kB."""
    facts: list[Fact] = [(100, (number,)) for number in range(10)]
    for free, fits in ((12_000, False), (12_080, True)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: type("Usage", (), {"free": free}))
        if fits:
            assert fill(tmp_path, Images(facts)).computed == 10
        else:
            with pytest.raises(FedummError, match="are needed"):
                fill(tmp_path, Images(facts))


@pytest.mark.parametrize(
    "made",
    [
        (torch.zeros(1, 2, 3), torch.zeros(1, dtype=torch.int64)),
        (torch.zeros(2, 3), torch.zeros(1)),
        (torch.zeros(2, 3), torch.zeros(1, 1, dtype=torch.int64)),
    ],
)
def test_a_stage_that_says_something_else_is_told_so(made: Any, tmp_path: Path) -> None:
    stage = Stage()
    stage.encode = lambda _: made  # type: ignore[method-assign]
    stage.frozen = FrozenStage("test", MODULE, stage.encode, "{}", one_by_one=True)
    with pytest.raises(TypeError, match=r"features \(n, width\) and int64 numbers \(m,\)"):
        fill(tmp_path, Images(FACTS), stage=stage)


def test_blocks_of_one_length_have_no_numbers_beside() -> None:
    table = FeatureTable([Block(torch.arange(6).view(2, 3))], [(0, 1), (0, 0)])
    assert table.of(0).tolist() == [3, 4, 5]
    assert table.beside(0).tolist() == []
