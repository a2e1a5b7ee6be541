"""Whose cached features are taken, what must be in them, and which rights what is made gets."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from features.test_cache import Pictures, Stage, check, fill, shards
from fedumm.adapters.folder import save_folder
from fedumm.errors import FedummError
from fedumm.features.options import default_folder, is_named
from support.feature_files import rewrite

COLOURS = list(range(100))


@pytest.fixture
def mask() -> Iterator[Callable[[int], None]]:
    before = os.umask(0o022)

    def set_to(value: int) -> None:
        os.umask(value)

    yield set_to
    os.umask(before)


@pytest.fixture
def given_away(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes a file another user's; who may not do that becomes another user."""

    def give(path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, 4321, -1, follow_symlinks=False)
        else:
            own = os.geteuid()
            monkeypatch.setattr(os, "geteuid", lambda: own + 1)

    return give


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def rewritten(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    """Features that were changed by somebody who gets the checksums right."""
    return lambda path: rewrite(path, lambda tensors: tensors.update(features=change(tensors["features"])))


def with_nan(features: torch.Tensor) -> torch.Tensor:
    features[3, 1, 1] = torch.nan
    return features


def with_infinity(features: torch.Tensor) -> torch.Tensor:
    features[0, 0, 0] = -torch.inf
    return features


def renamed(images: object) -> Callable[[Path], None]:
    def rename(path: Path) -> None:
        rewrite(path, lambda _: None, images=json.dumps(images))

    return rename


def linked(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


MISFITS: dict[str, Callable[[Path], Any]] = {
    "int8": rewritten(lambda t: t.to(torch.int8)),
    "float16": rewritten(lambda t: t.to(torch.float16)),
    "wide": rewritten(lambda t: torch.cat([t, t], -1)),
    "flat": rewritten(lambda t: t.flatten(1)),
    "few rows": rewritten(lambda t: t[:-1]),
    "many rows": rewritten(lambda t: torch.cat([t, t])),
    "other names": renamed(["x"] * 64),
    "no list of names": renamed({"a": 1}),
    "numbers for names": renamed([1, 2]),
    "too deep": lambda path: renamed([])(path) or path.write_bytes(path.read_bytes().replace(b"[]", b"[[", 1)),
    "a link": linked,
    "for all to write": lambda path: path.chmod(0o646),
    "for the group to write": lambda path: path.chmod(0o664),
}


@pytest.mark.parametrize("change", [with_nan, with_infinity])
def test_numbers_that_are_not_finite_are_made_again_when_asked_for(
    change: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path
) -> None:
    fill(tmp_path, Pictures(COLOURS))
    rewritten(change)(shards(tmp_path)[0])
    data, stage = Pictures(COLOURS), Stage()
    assert fill(tmp_path, data, stage=stage).remade == 0
    check(data)
    assert stage.shapes


@pytest.mark.parametrize("spoil", MISFITS.values(), ids=MISFITS.keys())
def test_what_does_not_fit_is_made_again_and_told(spoil: Callable[[Path], Any], tmp_path: Path) -> None:
    fill(tmp_path, Pictures(COLOURS))
    names = shards(tmp_path)
    spoil(names[0])
    data = Pictures(COLOURS)
    report = fill(tmp_path, data)
    check(data)
    assert report.computed in (36, 64), "of one file"
    assert report.remade == 1
    assert ", 1 file(s) that did not fit made again" in report.describe()
    assert fill(tmp_path, Pictures(COLOURS)).remade == 0
    assert shards(tmp_path) == names
    assert not any(path.is_symlink() for path in names)


def test_all_files_of_another_width_are_not_taken_for_right(tmp_path: Path) -> None:
    """Nothing in the files tells: what the stage itself says of an image does, as it was kept or as it is now."""
    for keep in (True, False):
        fill(tmp_path, Pictures(COLOURS))
        for path in shards(tmp_path):
            rewritten(lambda t: torch.cat([t, t], -1))(path)
        (description,) = tmp_path.rglob("stage.json")
        if not keep:
            description.write_text("[" * 100_000)
        data = Pictures(COLOURS)
        assert fill(tmp_path, data).remade == 2
        check(data)


def test_another_users_file_is_made_again(tmp_path: Path, given_away: Callable[[Path], None]) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    fill(tmp_path, Pictures(COLOURS))
    given_away(shards(tmp_path)[0])
    data = Pictures(COLOURS)
    assert fill(tmp_path, data).remade == 1
    check(data)


@pytest.mark.parametrize("which", [".", "features", "features/*"])
@pytest.mark.parametrize("how", ["owner", "mode"])
def test_another_users_folder_is_not_used(
    which: str, how: str, tmp_path: Path, given_away: Callable[[Path], None]
) -> None:
    cache = tmp_path / "cache"
    fill(cache, Pictures(COLOURS))
    for path in shards(cache):
        rewritten(torch.zeros_like)(path)
    place = cache if which == "." else next(iter(cache.glob(which)))
    given_away(place) if how == "owner" else place.chmod(0o777)
    data = Pictures(COLOURS)
    report = fill(cache, data, mode="auto")
    assert report.kept == "memory"
    assert ("belongs to another user" if how == "owner" else "can be written to by other users") in report.describe()
    check(data)
    with pytest.raises(FedummError, match="that its group, and nobody else, can write to"):
        fill(cache, Pictures(COLOURS), named=how == "mode")


def test_a_cache_that_can_only_be_read_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that root filled for all."""
    fill(tmp_path, Pictures(COLOURS))

    def no(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", no)
    monkeypatch.setattr(os, "utime", no)
    data = Pictures(COLOURS)
    report = fill(tmp_path, data, mode="auto")
    assert (report.kept, report.computed, report.note) == ("disk", 0, "")
    check(data)


def test_a_link_in_the_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "features").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FedummError, match="is no folder"):
        fill(tmp_path / "cache", Pictures([1]))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_cache_in_a_folder_like_tmp_is_ones_own(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    fill(tmp_path, Pictures([1, 2]), named=True)
    assert fill(tmp_path, Pictures([1, 2]), named=True).computed == 0
    (tmp_path / "features").chmod(0o775)
    with pytest.raises(FedummError, match="can be written to by other users"):
        fill(tmp_path, Pictures([1, 2]), named=True)


def test_a_description_that_is_a_link_leaves_what_it_leads_to_alone(tmp_path: Path) -> None:
    fill(tmp_path, Pictures([1, 2]))
    (description,) = tmp_path.rglob("stage.json")
    mine = tmp_path / "thesis.txt"
    mine.write_text("years of work")
    description.unlink()
    description.symlink_to(mine)
    lock = shards(tmp_path)[0].with_suffix(".lock")
    shards(tmp_path)[0].unlink()
    lock.symlink_to(mine)
    data = Pictures([1, 2])
    fill(tmp_path, data)
    check(data)
    assert mine.read_text() == "years of work"
    assert not description.is_symlink()


@pytest.mark.parametrize(("umask", "folder", "file"), [(0o077, 0o700, 0o600), (0o022, 0o755, 0o644), (0, 0o755, 0o644)])
def test_a_cache_is_made_by_the_umask_and_never_for_others_to_write_to(
    umask: int, folder: int, file: int, tmp_path: Path, mask: Callable[[int], None]
) -> None:
    mask(umask)
    fill(tmp_path / "cache", Pictures([1, 2]))
    (description,) = tmp_path.rglob("stage.json")
    assert {mode(p) for p in (tmp_path / "cache", tmp_path / "cache" / "features", description.parent)} == {folder}
    assert {mode(p) for p in (description, *shards(tmp_path))} == {file}
    assert fill(tmp_path / "cache", Pictures([1, 2])).computed == 0


@pytest.mark.parametrize("umask", [0o077, 0o022])
def test_a_cache_of_a_group_has_its_folders_rights_and_the_whole_group_is_trusted(
    umask: int, tmp_path: Path, mask: Callable[[int], None], given_away: Callable[[Path], None]
) -> None:
    mask(umask)
    top = tmp_path / "cache"
    top.mkdir()
    top.chmod(0o2770)
    fill(top, Pictures(COLOURS), named=True)
    (description,) = top.rglob("stage.json")
    assert {mode(p) for p in (top, top / "features", description.parent)} == {0o2770}
    assert {mode(p) for p in (description, *shards(top))} == {0o660}
    for path in (top, *shards(top)):
        given_away(path)
    assert fill(top, Pictures(COLOURS), named=True).computed == 0
    shards(top)[0].chmod(0o666)
    assert fill(top, Pictures(COLOURS), named=True).remade == 1
    with pytest.raises(FedummError, match=r"belongs to another user|can be written to by other users"):
        fill(top, Pictures(COLOURS), named=False)


def test_the_user_names_a_folder_by_option_or_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_named("")
    assert is_named("/x")
    monkeypatch.delenv("FEDUMM_CACHE")
    assert not is_named("")
    assert is_named("/x")


def test_a_user_without_a_home_has_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in containers, where the number of the user has no name."""
    for name in ("FEDUMM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    data = Pictures([1, 2])
    report = fill(default_folder(), data, mode="auto")
    assert report.kept == "memory"
    assert "this user has no home folder" in report.describe()
    check(data)
    with pytest.raises(FedummError, match=r"no home folder\. Choose another --feature_cache_dir"):
        fill(default_folder(), Pictures([1]))


def test_numbers_that_are_not_finite_are_not_kept_on_disk(tmp_path: Path) -> None:
    report = fill(tmp_path, Pictures([1, 2]), stage=Stage(weight=1e6), mode="auto", dtype=torch.float16)
    assert report.kept == "memory"
    assert "numbers that are not finite in torch.float16" in report.describe()
    assert not shards(tmp_path)


@pytest.mark.parametrize(
    ("umask", "folder", "file"), [(0o077, 0o700, 0o600), (0o022, 0o755, 0o644), (0o002, 0o775, 0o664)]
)
def test_an_adapter_is_made_by_the_umask(
    umask: int, folder: int, file: int, tmp_path: Path, mask: Callable[[int], None]
) -> None:
    mask(umask)
    for _ in range(2):
        save_folder(tmp_path / "adapter" / "best", {"w": torch.ones(1)}, {}, "card")
    assert {mode(p) for p in (tmp_path / "adapter", tmp_path / "adapter" / "best")} == {folder}
    assert {mode(p) for p in (tmp_path / "adapter" / "best").iterdir()} == {file}
    assert [p.name for p in (tmp_path / "adapter").iterdir()] == ["best"]
