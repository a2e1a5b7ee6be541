"""Things by name: which of several wins, what is imported when, and what counts as a user's own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedumm.errors import FedummError
from fedumm.registry import Registry, registrations

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module that can be imported for the length of the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def write_module(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()

    yield write_module
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def install(tmp_path: Path, write: Write) -> Callable[..., None]:
    """Installs a package ``acme`` with entry points of the group ``example.shapes``."""

    def install_package(text: str, **points: str) -> None:
        write("acme", text)
        info = tmp_path / "acme-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
        lines = "".join(f"{name} = {value}\n" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[example.shapes]\n{lines}")

    return install_package


def shapes(**options: Any) -> Registry[Any]:
    return Registry("shape", "example.shapes", **options)


def take(module: Any, name: str) -> Any:
    return module.SHAPES[name]


SHIPPED = "SHAPES = {'square': 'shipped square'}\n"


def shipped(write: Write) -> Registry[Any]:
    write("own_square", SHIPPED)
    return shapes(shipped={"square": "own_square"}, find=take)


def test_a_decorator_and_a_call_register_and_give_back_what_they_got() -> None:
    known = shapes()

    @known.register("square")
    class Square: ...

    circle = object()
    assert known.register("circle", circle) is circle
    assert (known.get("square"), known.get("circle")) == (Square, circle)
    assert known.names() == ["circle", "square"]


def test_what_is_shipped_is_imported_when_it_is_asked_for(write: Write) -> None:
    known = shipped(write)
    known.check("square")
    assert known.names() == ["square"]
    assert "own_square" not in sys.modules
    assert known.get("square") == "shipped square"


def test_what_is_shipped_is_not_a_users_own(write: Write) -> None:
    known = shipped(write)
    with registrations() as log:
        known.get("square")
    assert (log, known.own(), known.is_shipped("square")) == ([], {}, True)


def test_a_shipped_module_may_register_by_decorator_whoever_imports_it(write: Write) -> None:
    write("own_kinds", "from fedumm.registry import Registry\nKINDS = Registry('kind', 'x', {'a': 'own_a'})\n")
    write("own_a", "from own_kinds import KINDS\n@KINDS.register('a')\nclass A: ...\n")
    kinds = importlib.import_module("own_kinds").KINDS
    with registrations() as log:
        own = importlib.import_module("own_a").A
    assert (log, kinds.own(), kinds.get("a")) == ([], {}, own)


def test_a_user_may_replace_what_is_shipped_and_take_that_back(write: Write) -> None:
    known = shipped(write)
    known.register("square", "mine")
    assert (known.get("square"), known.own(), known.is_shipped("square")) == ("mine", {"square": "mine"}, False)
    known.forget("square")
    assert known.get("square") == "shipped square"


def test_a_user_wins_over_what_was_loaded_before(write: Write) -> None:
    known = shipped(write)
    known.get("square")
    known.register("square", "mine")
    assert known.get("square") == "mine"


def test_an_installed_package_may_not_replace_what_is_shipped(write: Write, install: Callable[..., None]) -> None:
    install("theirs = 'their square'\n", square="acme:theirs")
    assert shipped(write).get("square") == "shipped square"


def test_an_entry_point_names_the_thing_or_a_module_that_registers_it(install: Callable[..., None]) -> None:
    known = shapes()
    sys.modules["shapes_of_this_test"] = known  # type: ignore[assignment]
    install(
        "import sys\nround = 'their circle'\nsys.modules['shapes_of_this_test'].register('oval', 'their oval')\n",
        circle="acme:round",
        oval="acme",
    )
    assert known.names() == ["circle", "oval"]
    assert "acme" not in sys.modules
    with registrations() as log:
        assert [known.get(name) for name in ("oval", "circle")] == ["their oval", "their circle"]
    assert (log, known.own()) == ([], {})


@pytest.mark.parametrize(
    ("text", "value", "message"),
    [
        ("", "acme", "The entry point 'acme' did not register a shape called 'oval'"),
        ("", "acme:oval", "The entry point 'acme:oval' of the shape 'oval' failed: AttributeError"),
        ("raise OSError('gone')", "acme", "of the shape 'oval' failed: OSError: gone"),
    ],
)
def test_an_entry_point_that_gives_nothing_is_named(
    text: str, value: str, message: str, install: Callable[..., None]
) -> None:
    install(text, oval=value)
    with pytest.raises(FedummError, match=message):
        shapes().get("oval")


def test_an_unknown_name_lists_what_is_there_and_the_nearest() -> None:
    known = shapes()
    known.register("square", 1)
    with pytest.raises(FedummError) as refusal:
        known.get("sqare", " Look again.")
    assert str(refusal.value) == "Unknown shape 'sqare'. Available: square. Did you mean 'square'? Look again."


def test_what_is_no_such_thing_is_refused_and_leaves_no_trace() -> None:
    def check(name: str, item: Any) -> Any:
        if item != "round":
            raise FedummError(f"{name} is not round")
        return item.upper()

    known = shapes(check=check)
    with registrations() as log, pytest.raises(FedummError, match="box is not round"):
        known.register("box", "square")
    assert (log, known.names()) == ([], [])
    known.register("ball", "round")
    assert known.get("ball") == "ROUND"


def test_registrations_are_those_of_the_block_in_order() -> None:
    known = shapes()
    known.register("a", 1)
    with registrations() as log:
        known.register("b", 2)
        known.register("a", 3)
    known.register("c", 4)
    assert [(entry.registry, entry.name, entry.item) for entry in log] == [(known, "b", 2), (known, "a", 3)]


def test_what_is_shipped_is_registered_under_no_second_name() -> None:
    from fedumm.data.partition import PARTITIONERS, register_partitioner

    shipped = PARTITIONERS.get("iid")
    with pytest.raises(FedummError, match="the shipped partitioner 'iid': derive a class"):
        register_partitioner("other", shipped)
    assert PARTITIONERS.get("iid").name == "iid"
