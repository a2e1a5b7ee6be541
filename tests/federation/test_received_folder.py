"""A run's folder that somebody sent: going on with it writes nowhere else, and waits for nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fedumm.adapters.folder import mend_folder
from fedumm.errors import FedummError
from fedumm.generation.folder import DrawnFolder
from fedumm.output import check_plain
from support.commands import BACKEND, federate, flags, go_on, prepare, results


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one round."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        prepare(patch)
        assert federate(*flags(folder, num_rounds=1, aggregator="fedsa_lora")) == 0
    return folder


@pytest.fixture
def received(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    prepare(monkeypatch)
    shutil.copytree(finished, tmp_path / "received")
    return tmp_path / "received"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """What must stay as it is."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_text("years of work\n" * 9999)
    return tmp_path / "mine"


def moved(path: Path, elsewhere: Path) -> None:
    """The content is where it should be, by a link."""
    shutil.move(path, elsewhere / path.name)
    path.symlink_to(elsewhere / path.name)


TRAPS: dict[str, Callable[[Path, Path], object]] = {
    "metrics.jsonl": lambda run, mine: moved(run / "metrics.jsonl", mine),
    "adapter": lambda run, mine: moved(run / "adapter", mine),
    "adapter/last": lambda run, mine: moved(run / "adapter" / "last", mine),
    "state": lambda run, mine: moved(run / "state", mine),
    "state/server.safetensors": lambda run, mine: moved(run / "state" / "server.safetensors", mine),
    "clients": lambda run, mine: moved(run / "clients", mine),
    "config.yaml": lambda run, mine: moved(run / "config.yaml", mine),
    ".config.yaml.draft": lambda run, mine: (run / ".config.yaml.draft").symlink_to(mine / "thesis"),
    "state/.server.safetensors.draft": lambda run, mine: (run / "state" / ".server.safetensors.draft").symlink_to(mine),
    "flare.log": lambda run, mine: (run / "flare.log").symlink_to(mine / "thesis"),
    "tensorboard": lambda run, mine: (run / "tensorboard").symlink_to(mine),
    ".lock": lambda run, mine: (run / ".lock").unlink(missing_ok=True) or (run / ".lock").symlink_to(mine / "thesis"),
    "a dangling link": lambda run, mine: (run / "error.txt").symlink_to(mine / "new"),
    "a pipe": lambda run, mine: os.mkfifo(run / "state" / "pipe"),
    "a second name": lambda run, mine: (
        (run / "metrics.jsonl").unlink() or os.link(mine / "thesis", run / "metrics.jsonl")
    ),
}


@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS.keys())
def test_it_is_refused_with_its_links_and_nothing_is_touched(
    received: Path, mine: Path, capsys: pytest.CaptureFixture[str], trap: Callable[[Path, Path], object]
) -> None:
    trap(received, mine)
    before = {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()}
    lines = (
        ("--resume", received, "--num_rounds", 2, *BACKEND),
        (*flags(received, num_rounds=2, aggregator="fedsa_lora"), "--resume_if_exists"),
    )
    for line in lines:
        capsys.readouterr()
        assert federate(*line) == 2
        out, error = capsys.readouterr()
        assert "could land outside" in error
        assert error.count("\n") == 1
        assert "Traceback" not in out + error
    assert {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()} == before


def test_without_links_it_goes_on(received: Path, tmp_path: Path) -> None:
    assert go_on(received, "--num_rounds", 2) == 0
    assert federate(*flags(tmp_path / "straight", num_rounds=2, aggregator="fedsa_lora")) == 0
    ours, straight = (results(folder) for folder in (received, tmp_path / "straight"))
    assert {n for n, c in straight.items() if ours[n] != c} <= {"adapter/best/README.md", "adapter/last/README.md"}


def test_replacing_a_run_empties_no_file_through_its_lock(
    received: Path, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (received / ".lock").unlink(missing_ok=True)
    (received / ".lock").symlink_to(mine / "thesis")
    before = (mine / "thesis").read_bytes()
    assert federate(*flags(received), "--overwrite") == 2
    assert "could land outside" in capsys.readouterr().err
    assert (mine / "thesis").read_bytes() == before


def test_no_link_is_put_in_an_adapters_place(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / ".best-old").symlink_to(mine)
    (tmp_path / "adapter" / ".best-draft").symlink_to(mine)
    mend_folder(tmp_path / "adapter" / "best")
    assert not os.path.lexists(tmp_path / "adapter" / "best")
    assert (mine / "thesis").exists()


def test_drawing_goes_on_in_no_folder_with_links(mine: Path, tmp_path: Path) -> None:
    prompts = [{"tag": "single_object", "prompt": "a circle", "include": [{"class": "circle", "count": 1}]}]
    DrawnFolder(tmp_path / "drawn", prompts, 1, {})
    check_plain(tmp_path / "drawn")
    (tmp_path / "drawn" / "00000" / ".metadata.jsonl.draft").symlink_to(mine / "thesis")
    with pytest.raises(FedummError, match="could land outside"):
        DrawnFolder(tmp_path / "drawn", prompts, 1, {})
    assert (mine / "thesis").read_text().startswith("years")
