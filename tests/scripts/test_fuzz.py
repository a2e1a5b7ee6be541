"""A slice of ``make fuzz``, with cases of the day; and that it finds what it is there to find."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

import fuzz

SLICE = 10.0


def test_ten_seconds_of_mutations_are_refused_or_harmless() -> None:
    seed = int(time.time()) // 86_400
    counts, wrong = fuzz.fuzz(SLICE, seed)
    assert not wrong
    for name in fuzz.KINDS:
        assert counts[f"{name}, refused"] > 0, counts


def test_a_case_is_made_from_its_number() -> None:
    for name in fuzz.KINDS:
        assert fuzz.one_case(name, 7, 3) == fuzz.one_case(name, 7, 3)
    assert fuzz.mutated_update(random.Random("a")) == fuzz.mutated_update(random.Random("a"))


def raises(error: Exception) -> Callable[[random.Random], bool]:
    def attempt(_: random.Random) -> bool:
        raise error

    return attempt


@pytest.mark.parametrize(
    "error", [RuntimeError("index out of range"), RecursionError("deep"), MemoryError(), KeyError(1)]
)
def test_another_exception_than_the_documented_one_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(fuzz, "KINDS", {"x": fuzz.Kind(raises(error), (ValueError,))})
    counts, wrong = fuzz.fuzz(5.0, 1, say=lambda _: None)
    assert not counts
    assert len(wrong) == 20
    assert f"x: {type(error).__name__}" in wrong[0]
    assert wrong[3].endswith("(--seed 1 --only 'x' --case 3)")


def test_an_update_that_changes_a_round_from_which_it_is_refused_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "WITHOUT", b"other bits")
    cases = [number for number in range(30) if failing("updates", number)]
    assert cases


def failing(name: str, number: int) -> bool:
    try:
        fuzz.one_case(name, 1, number)
    except fuzz.WrongError as error:
        return "a rejected update changed the round" in str(error)
    return False
