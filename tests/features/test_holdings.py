"""``fedumm cache``: what is stored is listed, verified and removed, and nothing else is touched."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.test_cache import Pictures, Stage, check, fill, flip, shards
from fedumm.cli.main import main
from fedumm.features import holdings
from fedumm.features.holdings import Holding, to_prune
from fedumm.features.rights import Rights

DAY = 86400


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Two stages: 70 images used ten days ago, and 2 images used now."""
    top = tmp_path / "cache"
    fill(top, Pictures(range(70)), stage=Stage(settings='{"size": 1}'), model="big")
    old = time.time() - 10 * DAY
    for description in top.rglob("stage.json"):
        os.utime(description, (old, old))
    fill(top, Pictures([1, 2]), stage=Stage(settings='{"size": 2}'), model="small")
    gc.collect()  # of the data sets, and so of what says that they use the features
    return top


def stages(top: Path) -> list[str]:
    """What is left: the models' names."""
    return sorted(json.loads(path.read_text())["model"] for path in top.rglob("stage.json"))


def run(capsys: pytest.CaptureFixture[str], top: Path, *args: str) -> tuple[int, str, str]:
    status = main(["cache", "--feature_cache_dir", str(top), *args])
    out = capsys.readouterr()
    return status, out.out, out.err


def test_the_list(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, cache)
    assert status == 0
    big, small = (next(line for line in out.splitlines() if name in line) for name in ("big", "small"))
    assert "test" in big
    assert "float32" in big
    assert " 70 " in big
    assert " 2 " in small
    assert out.index("big") < out.index("small"), "the largest first"


def test_the_list_as_json(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, cache, "--json")
    facts = json.loads(out)
    big, small = facts["stages"]
    assert status == 0
    assert (big["model"], big["stage"], big["settings"], big["dtype"]) == ("big", "test", '{"size": 1}', "float32")
    assert (big["images"], small["images"], big["in_use"]) == (70, 2, False)
    assert big["bytes"] == sum(path.stat().st_size for path in shards(Path(big["folder"])))
    assert facts["bytes"] == sum(path.stat().st_size for path in shards(cache))
    assert "damaged" not in facts
    assert big["used"] < small["used"]


@pytest.mark.parametrize("there", [False, True])
def test_an_empty_cache(there: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if there:
        (tmp_path / "x").mkdir()
    assert run(capsys, tmp_path / "x") == (0, f"{tmp_path / 'x'}: no features are stored.\n", "")
    assert run(capsys, tmp_path / "x", "--verify")[0] == 0
    assert "Nothing to remove" in run(capsys, tmp_path / "x", "--prune", "--max_gb", "0")[1]
    assert (tmp_path / "x").exists() == there


def test_verify_reads_all_and_changes_nothing(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, cache, "--verify")
    assert (status, out.count("Everything is as it was written.")) == (0, 1)
    first, second, *_ = files = shards(cache)
    flip(first)
    second.write_bytes(second.read_bytes()[:-7])
    before = {path: path.read_bytes() for path in files}
    status, out, _ = run(capsys, cache, "--verify")
    assert status == 1
    assert f"! {first}: checksum (" in out
    assert f"! {second}: " in out
    assert "2 file(s) are damaged" in out
    status, out, _ = run(capsys, cache, "--verify", "--json")
    assert status == 1
    assert {damage["path"] for damage in json.loads(out)["damaged"]} == {str(first), str(second)}
    assert {path: path.read_bytes() for path in files} == before


def test_files_of_another_version_are_told_and_not_verified(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for description in cache.rglob("stage.json"):
        description.write_text(json.dumps({"stage": "test", "dtype": "torch.float32", "shape": [2, 3]}))
    for path in shards(cache):
        flip(path)
    status, out, _ = run(capsys, cache, "--verify")
    assert (status, out.count("was made by another version of fedumm, and is not verified")) == (0, 2)


def test_what_was_not_used_for_long_goes(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Nothing to remove" in run(capsys, cache, "--prune", "--older_than", "11", "--yes")[1]
    status, out, _ = run(capsys, cache, "--prune", "--older_than", "9.5", "--yes")
    assert (status, stages(cache)) == (0, ["small"])
    assert "Removed: 1 of 1 folder(s)." in out
    data = Pictures([1, 2])
    assert fill(cache, data, stage=Stage(settings='{"size": 2}')).computed == 0
    assert fill(cache, Pictures(range(70)), stage=Stage(settings='{"size": 1}')).computed == 70
    check(data)


def test_the_largest_goes_until_it_is_little_enough(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = sum(path.stat().st_size for path in shards(cache) if path.stat().st_size < 1500)
    run(capsys, cache, "--prune", "--max_gb", str(small / 1e9), "--yes")
    assert stages(cache) == ["small"]
    run(capsys, cache, "--prune", "--max_gb", "0", "--yes")
    assert not list((cache / "features").iterdir())


@pytest.mark.parametrize(("answer", "left"), [("n", 2), ("", 2), ("nyet", 2), ("y", 0), ("YES", 0)])
def test_it_asks_first(
    answer: str, left: int, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: print(question) or answer)
    status, out, _ = run(capsys, cache, "--prune", "--max_gb", "0")
    assert (status, len(stages(cache))) == (0, left)
    assert "Remove 2 folder(s), " in out
    assert ("Nothing was removed." in out) == (left == 2)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--prune", "--max_gb", "0"], "add --yes"),
        (["--prune"], "--prune needs --older_than DAYS, --max_gb GB or both"),
        (["--older_than", "3"], "add --prune"),
        (["--prune", "--json", "--max_gb", "1"], "--json asks no questions"),
        (["--prune", "--max_gb", "-1"], "invalid number that is not negative value"),
        (["--prune", "--max_gb", "nan"], "invalid number that is not negative value"),
        (["--prun"], "Did you mean '--prune'?"),
    ],
)
def test_what_is_asked_for_has_to_be_clear(
    args: list[str], message: str, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    status, _, errors = run(capsys, cache, *args)
    assert (status, stages(cache)) == (2, ["big", "small"])
    assert message in errors


USER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch
torch.set_num_threads(1)
from features.test_cache import Pictures, Stage, fill
data = Pictures([1, 2])
fill(Path(sys.argv[2]), data, stage=Stage(settings='{"size": 2}'))
print("ready", flush=True)
sys.stdin.read()
"""


def test_what_a_running_process_uses_stays(cache: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """As long as it runs, however it ends."""
    (tmp_path / "user.py").write_text(USER)
    command = [sys.executable, str(tmp_path / "user.py"), str(Path(__file__).parents[1]), str(cache)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert [stage["in_use"] for stage in json.loads(run(capsys, cache, "--json")[1])["stages"]] == [False, True]
        status, out, _ = run(capsys, cache, "--prune", "--max_gb", "0", "--yes")
        assert (status, stages(cache)) == (0, ["small"])
        assert " now " in out
        process.kill()
    run(capsys, cache, "--prune", "--max_gb", "0", "--yes")
    assert stages(cache) == []


def test_features_are_in_use_as_long_as_a_data_set_has_them(tmp_path: Path) -> None:
    data = Pictures([1])
    fill(tmp_path, data)
    found, _ = holdings.holdings(tmp_path, Rights())
    assert [holding.in_use for holding in found] == [True]
    assert "in use" in holdings.remove(tmp_path, Rights(), found[0])
    check(data)
    data.features = None
    gc.collect()
    assert not holdings.holdings(tmp_path, Rights())[0][0].in_use
    assert not list(tmp_path.rglob("*.use"))


def test_nothing_is_removed_through_links_or_outside(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = cache.parent / "mine"
    mine.mkdir()
    for name in ("a.safetensors", "thesis.txt"):
        (mine / name).write_text("years of work")
    first, second = sorted((cache / "features").iterdir())
    (first / "b.safetensors").symlink_to(mine / "a.safetensors")
    (first / "d.lock").symlink_to(mine)
    (first / "e.lock").symlink_to(mine / "nowhere")
    (first / "notes.txt").write_text("mine, too")
    (second / "c.json").mkdir()
    (cache / "features" / ("0" * 32)).symlink_to(mine)
    (cache / "features" / "other").mkdir()
    status, out, _ = run(capsys, cache, "--prune", "--max_gb", "0", "--yes")
    assert status == 0
    assert sorted(path.name for path in mine.iterdir()) == ["a.safetensors", "thesis.txt"]
    assert [path.name for path in first.iterdir()] == ["notes.txt"]
    assert [path.name for path in second.iterdir()] == ["c.json"]
    assert "0" * 32 + " is no folder" in out
    assert "other is not the cache's; it is left alone" in out
    assert f"! Not removed: {first}: Directory not empty" in out
    assert "Removed: 0 of 2 folder(s)." in out


def test_folders_of_others_are_left_alone(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shards(cache)[0].parent
    folder.chmod(0o777)
    _, out, _ = run(capsys, cache, "--prune", "--max_gb", "0", "--yes")
    assert f"{folder} can be written to by other users" in out
    assert len(stages(cache)) == 1
    (cache / "features").chmod(0o777)
    status, _, errors = run(capsys, cache)
    assert status == 2
    assert "can be written to by other users" in errors


def holding(number: int, size: int, age: float, in_use: bool) -> Holding:
    return Holding(Path(str(number)), "", "", "", "", 0, size, 1e9 - age * DAY, in_use, True)


FACTS = st.tuples(st.integers(0, 50), st.floats(0, 50), st.booleans())
LIMIT = st.none() | st.integers(0, 100)


@given(st.lists(FACTS, max_size=6), LIMIT, LIMIT)
def test_what_goes(facts: list[Any], days: int | None, most: int | None) -> None:
    found = [holding(number, *own) for number, own in enumerate(facts)]
    gone = to_prune(found, days, most, now=1e9)
    assert len(set(gone)) == len(gone)
    assert not any(h.in_use for h in gone)
    old = {h for h in found if not h.in_use and days is not None and (1e9 - h.used) / DAY > days}
    assert old <= set(gone)
    stay = [h for h in found if h not in gone]
    extra = [h for h in gone if h not in old]
    left = sum(h.bytes for h in stay)
    if most is None:
        assert not extra
    else:
        assert left <= most or all(h.in_use for h in stay)
        if extra:
            assert left + extra[-1].bytes > most, "none too many"
            assert min(h.bytes for h in extra) >= max((h.bytes for h in stay if not h.in_use), default=0)
