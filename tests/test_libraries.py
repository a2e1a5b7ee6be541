"""What is said of libraries that are newer than those that the tests ran with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fedumm import libraries
from fedumm.cli.main import run
from fedumm.libraries import TESTED, likely_cause, newer_than_tested

ROOT = Path(__file__).parents[1]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = (re.match(r"([\w-]+)==([\w.]+)", line) for line in lines)
    return {match[1].replace("-", "_"): match[2] for match in found if match}


def install(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    monkeypatch.setattr(libraries, "version", lambda name: versions.get(name, TESTED[name]))


def test_they_are_those_of_the_constraints() -> None:
    pinned = pins()
    assert {name: pinned[name] for name in TESTED} == TESTED


@pytest.mark.parametrize("own", ["5.24.0", "5.23.9", "5.24.0+cpu", "5.9.0", ""])
def test_nothing_is_said_of_the_same_or_an_older_one(monkeypatch: pytest.MonkeyPatch, own: str) -> None:
    install(monkeypatch, transformers=own)
    assert newer_than_tested() == likely_cause() == ""


@pytest.mark.parametrize("own", ["5.24.1", "5.25.0", "5.100.0.dev0", "6.0.0rc1"])
def test_a_newer_one_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch, own: str) -> None:
    install(monkeypatch, transformers=own)
    assert f"transformers {own} (tested: {TESTED['transformers']})" in newer_than_tested()
    assert f"pip install 'transformers<={TESTED['transformers']}'" in likely_cause()
    assert "peft" not in likely_cause()


def test_one_line_before_a_command_and_one_after_it_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, peft="99.0")

    def fail(argv: list[str], prog: str) -> int:
        raise TypeError("got multiple values for argument 'cache'")

    monkeypatch.setattr("fedumm.cli.ask.main", fail)
    assert run("ask", [], "fedumm ask") == 1
    first, *_, last, advice = capsys.readouterr().err.strip().splitlines()
    assert first.startswith("fedumm ask: Newer than")
    assert "unexpected TypeError" in last
    assert "pip install 'peft<=" in advice
