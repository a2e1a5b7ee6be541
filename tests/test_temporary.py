"""Temporary folders: sockets can be made in them, whatever ``TMPDIR`` says."""

from __future__ import annotations

import os
import shlex
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedumm import temporary
from fedumm.errors import FedummError
from fedumm.federation.runners.flare.simulator import check_path
from fedumm.temporary import base_for_sockets, leave_room_for_sockets, survives_splitting


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Makes a folder and has temporary files go there."""

    def set_it(folder: Path) -> Path:
        folder.mkdir()
        monkeypatch.setenv("TMPDIR", str(folder))
        monkeypatch.setattr(tempfile, "tempdir", None)
        return folder

    return set_it


@pytest.fixture
def short() -> Path:
    return Path(tempfile.mkdtemp(dir="/tmp", prefix="f"))


def test_the_users_folder_is_used_if_it_will_do(use: Callable[[Path], Path], short: Path) -> None:
    folder = use(short / "größe")
    assert base_for_sockets() == str(folder)
    leave_room_for_sockets()
    assert tempfile.gettempdir() == str(folder)


@pytest.mark.parametrize("name", ["x" * 110, "with space", "it's", "a#b"])
def test_another_is_used_if_not(name: str, use: Callable[[Path], Path], short: Path) -> None:
    folder = use(short / name)
    base = base_for_sockets()
    assert base != str(folder)
    assert not list(folder.iterdir())
    with tempfile.TemporaryDirectory(prefix="fedumm-", dir=base) as made, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.join(made, "pymp-12345678listener-12345678"))


def test_workers_of_this_process_get_room(use: Callable[[Path], Path], short: Path) -> None:
    from multiprocessing.connection import Listener

    use(short / ("x" * 100))
    with pytest.raises(OSError, match="path too long"):
        Listener(os.path.join(tempfile.mkdtemp(prefix="pymp-"), "listener-12345678"), "AF_UNIX")
    leave_room_for_sockets()
    Listener(os.path.join(tempfile.mkdtemp(prefix="pymp-"), "listener-12345678"), "AF_UNIX").close()


def test_if_none_will_do_that_is_said(
    use: Callable[[Path], Path], short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = use(short / ("x" * 110))
    monkeypatch.setattr(temporary, "_ELSEWHERE", ("/proc", "/nowhere"))
    with pytest.raises(FedummError, match=f"{folder}, /proc, /nowhere.*Set TMPDIR to a folder with a short name"):
        base_for_sockets()


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_a_path_survives_as_a_word_of_a_command(path: str) -> None:
    if survives_splitting(path):
        assert shlex.split(f"simulator -w {path} -n 2", comments=True) == ["simulator", "-w", path, "-n", "2"]


@pytest.mark.parametrize("name", ["my run", "it's", "run#2", 'a"b', "a\\b", "tab\there"])
def test_the_simulator_refuses_a_folder_whose_name_it_would_break(name: str, tmp_path: Path) -> None:
    with pytest.raises(FedummError, match="Use another --name, or --in_process"):
        check_path(tmp_path / name)
    check_path(tmp_path / "größe-(1);$HOME&*")
