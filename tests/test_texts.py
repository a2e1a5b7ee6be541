"""Texts of somebody else's act on no screen, break no line, and are bounded."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fedumm.report.console import RunConsole
from fedumm.texts import is_plain, one_line, plain_lines, tag

ANY = st.text(st.characters(codec=None))
"""Lone surrogates too."""


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("a plain text, één 中文 😀", "a plain text, één 中文 😀"),
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("one\ntwo\r\n\u2028three\u2029\x85", r"one\ntwo\r\n\u2028three\u2029\x85"),
        ("abc\u202ecba\u2066\u200f", r"abc\u202ecba\u2066\u200f"),
        ("a\u200bb\u200d\ufeff\u2060\u034f\u3164\ufe0f", r"a\u200bb\u200d\ufeff\u2060\u034f\u3164\ufe0f"),
        ("\ud800x\udfff", r"\ud800x\udfff"),
        ("1\u00a0000\u3000\u2003", "1 000  "),
        ("x" * 501, "x" * 497 + "..."),
        ("\x1b" * 500, (r"\x1b" * 125)[:497] + "..."),
    ],
)
def test_what_becomes_of_it(given_text: str, shown: str) -> None:
    assert one_line(given_text) == shown


@given(ANY, st.integers(10, 600))
def test_any_text_is_one_bounded_line_of_what_prints(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert line.isprintable()
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in line)
    assert one_line(line, limit) == line
    line.encode()


@given(ANY)
def test_of_several_lines_the_lines_stay(text: str) -> None:
    assert plain_lines(text).split("\n") == [one_line(own, 10**6) for own in text.split("\n")]


def test_of_a_long_traceback_the_end_is_kept() -> None:
    text = plain_lines("Traceback\n" + "  a line\n" * 10_000 + "ValueError: \x1bno")
    assert text.startswith("...\n")
    assert text.endswith("\nValueError: \\x1bno")
    assert len(text) <= 20_004


def test_names_are_not_changed_but_refused() -> None:
    assert is_plain("base_model.model.answer.lora_A.weight")
    assert not any(map(is_plain, ("a\n", "\ud800", "x" * 501)))
    assert tag("a/b\x1b") == "a_b\\x1b"


def test_a_line_on_screen_is_one_line(tmp_path: Path) -> None:
    with open(tmp_path / "screen", "w+", encoding="utf-8") as screen:
        console = RunConsole(Console(file=screen, width=80))
        reason = "\x1b[2J[/x]\nround 3: \ud800"
        console.show({"event": "client", "round": 2, "client": "site-1", "rejected": "failed", "reason": reason})
        console.progress("\x1b[2J[/x]\n", 1, 2, "host-1")
        screen.seek(0)
        assert screen.read() == "  round 2: site-1 rejected: \\x1b[2J[/x]\\nround 3: \\ud800\n"


def test_of_hundreds_that_fail_a_few_are_named_and_the_others_counted(tmp_path: Path) -> None:
    with open(tmp_path / "screen", "w+", encoding="utf-8") as screen:
        console = RunConsole(Console(file=screen, width=80))
        for number in (1, 2):
            for client in range(300):
                client_record = {"event": "client", "round": number, "client": f"site-{client}"}
                record = client_record | {"rejected": "failed", "reason": "no memory"}
                console.show(record)
            console.show({"event": "repeat", "round": number, "usable": 3, "needed": 10})
        screen.seek(0)
        lines = screen.read().splitlines()
    assert len(lines) == 2 * 12
    assert lines[9:11] == [
        "  round 1: site-9 rejected: no memory",
        "  round 1: 290 more rejected; all are in metrics.jsonl",
    ]
