"""Files of a user's own: what they register is known, they are run once, and what is wrong with one is said."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedumm import plugins
from fedumm.cli.plugins import load_named_plugins
from fedumm.data.source import available_sources
from fedumm.errors import FedummError
from fedumm.plugins import load_plugins, plugin_files
from fedumm.registry import Registry

SHAPES: Registry[object] = Registry("shape", "example.shapes")
REGISTERS = """
from fedumm.registry import REGISTRIES
(shapes,) = [registry for registry in REGISTRIES if registry.group == "example.shapes"]
@shapes.register("square")
class Square: ...
"""
Write = Callable[..., str]


@pytest.fixture(autouse=True)
def _none_loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(plugins, "_loaded", {})
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("fedumm_plugin_"):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str, name: str = "mine.py") -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    return write_file


def test_what_a_file_registers_is_known(write: Write) -> None:
    load_plugins([write(REGISTERS)])
    assert SHAPES.get("square").__name__ == "Square"


def test_a_file_may_register_several_kinds_of_things(write: Write) -> None:
    text = f"{REGISTERS}\nfrom fedumm.data import register_source\nregister_source('theirs', lambda request: None)\n"
    load_plugins([write(text)])
    assert SHAPES.names() == ["square"]
    assert "theirs" in available_sources()


def test_its_classes_can_be_found_again_by_a_worker_process(write: Write) -> None:
    """Pickle looks a class up by its module's name; two files may have one name."""
    texts = {"a/mine.py": REGISTERS, "b/mine.py": REGISTERS.replace("square", "circle")}
    load_plugins([write(text, name) for name, text in texts.items()])
    for name in SHAPES.names():
        kind = SHAPES.get(name)
        assert getattr(sys.modules[kind.__module__], kind.__qualname__) is kind
    assert SHAPES.names() == ["circle", "square"]


def test_a_file_is_run_once_a_command_and_a_second_call_registers_it_again(write: Write, tmp_path: Path) -> None:
    path = write(f"{REGISTERS}\nwith open({str(tmp_path / 'runs')!r}, 'a') as file: file.write('.')\n")
    load_plugins([path])
    first = SHAPES.get("square")
    SHAPES.register("square", "another")
    load_plugins([path])
    assert SHAPES.get("square") is first
    assert (tmp_path / "runs").read_text() == "."
    load_named_plugins(["--plugin", path])
    assert SHAPES.get("square") is not first
    assert (tmp_path / "runs").read_text() == ".."


def test_a_file_that_was_changed_is_run_again(write: Write) -> None:
    """Also one that is as long as before, and was changed in the same second."""
    for text in (REGISTERS, REGISTERS.replace("square", "circle")):
        path = write(text)
        os.utime(path, (1_700_000_000, 1_700_000_000))
        load_plugins([path])
    assert SHAPES.names() == ["circle", "square"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_library\n", r"failed: ModuleNotFoundError: No module named 'no_such_library'"),
        ("def broken(:\n", r"failed: SyntaxError: "),
        ("raise RuntimeError('no licence')\n", r"failed: RuntimeError: no licence"),
        ("", r"registered nothing: end it with register_backend\(name, backend\)"),
        ("class Mine: ...\n", r"registered nothing"),
        ("from fedumm.backends import get_backend\nget_backend('blip_vqa')\n", r"registered nothing"),
    ],
)
def test_a_file_that_does_not_register_says_why_with_its_path(text: str, message: str, write: Write) -> None:
    path = write(text)
    for _ in range(2):
        with pytest.raises(FedummError, match=message) as refusal:
            load_plugins([path])
        assert str(refusal.value).startswith(f"--plugin {path} ")


def test_a_file_with_an_incomplete_backend_names_the_methods(write: Write) -> None:
    path = write("from fedumm.backends import register_backend\nregister_backend('mine', object())\n")
    with pytest.raises(FedummError, match=r"^Backend 'mine' lacks the method\(s\) build_model_and_processor, "):
        load_plugins([path])


@pytest.mark.parametrize("name", ["nowhere.py", ".", "sub/nowhere.py"])
def test_a_file_that_is_missing_is_named_before_another_is_run(name: str, write: Write, tmp_path: Path) -> None:
    with pytest.raises(FedummError, match=f"^--plugin {tmp_path / name}: no such file"):
        load_plugins([write(REGISTERS), str(tmp_path / name)])
    assert SHAPES.names() == []


def test_a_file_that_is_no_python_is_named(write: Write) -> None:
    with pytest.raises(FedummError, match="not a Python file"):
        load_plugins([write(REGISTERS, "mine.txt")])


def test_the_command_line_names_files_among_other_flags(write: Write) -> None:
    paths = [write(REGISTERS.replace("square", name), f"{name}.py") for name in ("oval", "circle")]
    argv = ["a picture", "-h", "--max_eval_samples", "-1", "--plugin", paths[0], "--new=x", f"--plugin={paths[1]}"]
    load_named_plugins(argv)
    assert SHAPES.names() == ["circle", "oval"]


@pytest.mark.parametrize("argv", [["--plugin"], ["--plugin", "--help"]])
def test_a_flag_without_a_file_is_refused(argv: list[str]) -> None:
    with pytest.raises(FedummError, match="--plugin: expected one argument"):
        load_named_plugins(argv)


def test_a_flag_is_not_guessed_from_its_beginning(write: Write) -> None:
    load_named_plugins(["--plug", write(REGISTERS)])
    assert SHAPES.names() == []


def test_files_are_joined_as_in_path() -> None:
    assert plugin_files("") == ()
    assert plugin_files("a.py:~/b.py") == ("a.py", str(Path.home() / "b.py"))
