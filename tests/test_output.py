"""What an option names is found out to be writable or not before any work, and nothing is written over by halves."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedumm.cli.main import main
from fedumm.errors import FedummError
from fedumm.files import replacing
from fedumm.output import check_cache, check_file, check_folder

LONG = "n" * 300
NO_FOLDER = ["a_file", "a_file/below", "/proc/new", "/dev/full", LONG, f"new/{LONG}", "a\0b"]
NO_FILE = {
    "a_file/x.png": "no such folder",
    "nowhere/x.png": "no such folder",
    "a_folder.png": "is no file that could be replaced",
    "full.png": "is no file that could be replaced",
    "/proc/x.png": "can't be written",
    f"{LONG}.png": "can't be written",
}


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a_file").write_text("mine")
    Path("a_folder.png").mkdir()
    Path("full.png").symlink_to("/dev/full")


@pytest.fixture
def unchanged(tmp_path: Path) -> Callable[[], bool]:
    """Whether all is as it was."""

    def listing() -> dict[str, str]:
        return {str(p): p.read_text() if p.is_file() else "" for p in tmp_path.rglob("*")}

    before = listing()
    return lambda: listing() == before


@pytest.mark.parametrize("place", NO_FOLDER)
def test_a_folder_that_cannot_be_is_refused(place: str, unchanged: Callable[[], bool]) -> None:
    for check in (check_folder, check_cache):
        with pytest.raises(FedummError, match=r"^--here .* can't be written to: "):
            check("here", place)
    assert unchanged()


def test_a_folder_that_can_be_is_not_made_yet(unchanged: Callable[[], bool]) -> None:
    for place in ("new", "new/and/deeper", ".", "a_folder.png"):
        check_folder("here", place)
    assert unchanged()


def test_a_cache_may_be_there_to_be_read_only(unchanged: Callable[[], bool]) -> None:
    with pytest.raises(FedummError):
        check_folder("here", "/proc")
    check_cache("here", "/proc")
    check_cache("here", "new")
    assert unchanged()


@pytest.mark.parametrize(("place", "message"), NO_FILE.items(), ids=[name[:12] for name in NO_FILE])
def test_a_file_that_cannot_be_is_refused(place: str, message: str, unchanged: Callable[[], bool]) -> None:
    with pytest.raises(FedummError, match=message):
        check_file("here", place)
    assert unchanged()


def test_a_file_takes_the_place_of_another_whole_or_not_at_all() -> None:
    check_file("here", "a_file")

    def half() -> None:
        with replacing(Path("a_file")) as draft:
            draft.write_text("ha")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        half()
    assert Path("a_file").read_text() == "mine"
    with replacing(Path("a_file")) as draft:
        draft.write_text("new")
    assert Path("a_file").read_text() == "new"
    assert sorted(os.listdir()) == ["a_file", "a_folder.png", "full.png"]


BLIP = ["--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--dataset", "easy_vqa"]
JANUS = ["--model_backend", "januspro", "--model_name_or_path", "tiny"]
COMMANDS = {
    "output_dir": ["train", *BLIP],
    "name": ["federate", *BLIP, "--in_process"],
    "export_dir": ["federate", *BLIP],
    "feature_cache_dir": ["federate", *BLIP, "--in_process"],
    "data_path": ["federate", *BLIP, "--simulator"],
    "out": ["geneval", *JANUS],
    "figure": ["partition", "--dataset", "easy_vqa"],
}


@pytest.mark.parametrize("option", COMMANDS)
@pytest.mark.parametrize("place", ["a_file/below.png", "/proc/new/x.png"])
def test_each_command_asks_before_it_works(
    option: str,
    place: str,
    unchanged: Callable[[], bool],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def worked(*_: object) -> None:
        raise AssertionError("data or a model were loaded")

    monkeypatch.setattr("fedumm.data.source.load_data", worked)
    monkeypatch.setattr("fedumm.training.backbone.load_backbone", worked)
    assert main([*COMMANDS[option], f"--{option}", place]) == 2
    output, errors = capsys.readouterr()
    (line,) = errors.splitlines()
    assert f"--{option} " in line
    assert output == ""
    assert unchanged()


@pytest.mark.parametrize("place", ["a_folder.png", "full.png", "/proc/x.png"])
def test_a_drawing_is_not_made_for_nothing(
    place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fedumm.cli.draw.drawer", None)
    assert main(["draw", "a circle", *JANUS, "--out", place]) == 2
    assert f"--out {place} " in capsys.readouterr().err


TABLE = """
import sys
from fedumm.cli import ask, main
from fedumm.report.console import Screen
ask.main = lambda *_: Screen().print("a row\\n" * 10000)
sys.exit(main.main(["ask"]))
"""
MODULE = [sys.executable, "-m", "fedumm.cli.main"]
JOB = [sys.executable, str(Path(__file__).parents[1] / "job.py")]
PRINTING = {
    "fedumm --help": [*MODULE, "--help"],
    "fedumm --version": [*MODULE, "--version"],
    "fedumm ask --help": [*MODULE, "ask", "--help"],
    "job.py --help": [*JOB, "--help"],
    "a table": [sys.executable, "-c", TABLE],
}


def run_into(output: int, command: list[str], unbuffered: str, errors: int = subprocess.PIPE) -> tuple[int, str]:
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, stdout=output, stderr=errors, text=True, env=environment, timeout=120)
    return done.returncode, done.stderr or ""


@pytest.fixture
def closed_pipe() -> int:
    """The end to write to of a pipe that nobody reads."""
    end, writing = os.pipe()
    os.close(end)
    return writing


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("command", PRINTING.values(), ids=PRINTING.keys())
def test_a_reader_that_has_gone_is_the_end_and_no_traceback(
    command: list[str], unbuffered: str, closed_pipe: int
) -> None:
    assert run_into(closed_pipe, command, unbuffered) == (141, "")


@pytest.mark.parametrize("command", [[*MODULE, "bogus"], [*MODULE, "ask", "nowhere.png", "what?"]], ids=" ".join)
def test_nor_is_one_of_errors(command: list[str], closed_pipe: int) -> None:
    assert run_into(closed_pipe, command, "", errors=subprocess.STDOUT) == (141, "")


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("name", ["fedumm --help", "job.py --help"])
def test_a_full_disk_under_the_output_is_one_line(name: str, unbuffered: str) -> None:
    with open("/dev/full", "wb") as full:
        status, errors = run_into(full.fileno(), PRINTING[name], unbuffered)
    assert status == 2
    assert [line.split(": ", 1)[1] for line in errors.splitlines()] == ["[Errno 28] No space left on device"]


def test_a_broken_pipe_of_something_else_is_no_end_in_silence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> int:
        raise BrokenPipeError("a worker's")

    monkeypatch.setattr("fedumm.cli.ask.main", broken)
    assert main(["ask"]) == 1
    assert "BrokenPipeError: a worker's" in capsys.readouterr().err


def test_an_argument_of_odd_bytes_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["federate", *BLIP, "--in_process", "--name", os.fsdecode(b"r\xff")]) == 2
    assert "The argument 'r\\udcff' is not valid UTF-8." in capsys.readouterr().err


def test_a_screen_of_few_characters_gets_numbers_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(screen, "ascii"))
    monkeypatch.setattr("fedumm.cli.ask.main", lambda *_: print("größe"))
    assert main(["ask"]) == 0
    assert screen.getvalue() == b"gr\\xf6\\xdfe\n"
