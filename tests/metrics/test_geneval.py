"""GenEval's rule clause by clause, and against a brute-force reading of it."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedumm.errors import FedummError
from fedumm.metrics.geneval import (
    CATEGORIES,
    MAX_OBJECTS,
    Detection,
    Verdict,
    judge,
    kept,
    read_prompts,
    relations,
    summarise,
)

OFFICIAL = Path(__file__).parents[3] / "shared" / "data" / "geneval_metadata.jsonl"


def at(name: str, x: float, y: float, size: float = 10, confidence: float = 0.9, number: int = 0) -> Detection:
    """A square of ``size`` around (x, y)."""
    half = size / 2
    return Detection(name, (x - half, y - half, x + half, y + half), confidence, number)


def clause(name: str, count: int = 1, **more: Any) -> dict[str, Any]:
    return {"class": name, "count": count, **more}


def verdict(include: list[Any], found: list[Detection], colors: dict[int, str] | None = None, **more: Any) -> Verdict:
    prompt = {"tag": "x", "prompt": "x", "include": include, "exclude": more.pop("exclude", [])}
    return judge(prompt, found, lambda detection: (colors or {})[detection.number], **more)


DOG, CAT = at("dog", 20, 20), at("cat", 80, 20)


def test_every_class_of_include_must_be_there() -> None:
    assert verdict([clause("dog"), clause("cat")], [DOG, CAT]).correct
    assert verdict([clause("dog"), clause("cat")], [DOG]) == Verdict(False, "0 cat instead of 1")
    assert verdict([clause("dog"), clause("cat")], []).reason == "0 dog instead of 1; 0 cat instead of 1"


def test_a_count_is_a_least_number_and_exclude_a_most() -> None:
    three = [at("dog", 10 * i, 0) for i in range(3)]
    assert verdict([clause("dog", 2)], three).correct
    exact = {"include": [clause("dog", 2)], "exclude": [clause("dog", 3)]}
    assert verdict(**{**exact, "found": three[:2]}).correct
    assert verdict(**{**exact, "found": three}).reason == "3 dog, and 3 are too many"
    assert verdict(**{**exact, "found": three[:1]}).reason == "1 dog instead of 2"


def test_any_clause_of_exclude_is_enough() -> None:
    exclude = [clause("bird"), clause("cat")]
    assert verdict([clause("dog")], [DOG], exclude=exclude).correct
    assert not verdict([clause("dog")], [DOG, CAT], exclude=exclude).correct


def test_what_is_asked_of_is_the_most_confident() -> None:
    found = [at("dog", 0, 0, confidence=0.5, number=0), at("dog", 50, 0, confidence=0.8, number=1)]
    assert verdict([clause("dog", color="red")], found, {0: "blue", 1: "red"}).correct
    wrong = verdict([clause("dog", color="red")], found, {0: "red", 1: "blue"})
    assert wrong == Verdict(False, "dog is blue instead of red")


def test_all_of_several_must_have_the_colour() -> None:
    found = [at("dog", 50 * i, 0, number=i) for i in range(2)]
    assert verdict([clause("dog", 2, color="red")], found, {0: "red", 1: "red"}).correct
    assert not verdict([clause("dog", 2, color="red")], found, {0: "red", 1: "blue"}).correct


def test_colours_are_asked_for_only_where_named_and_enough_was_found() -> None:
    assert verdict([clause("dog")], [DOG], {}).correct
    assert not verdict([clause("cat", color="red")], [DOG], {}).correct


def test_the_threshold_is_exclusive_and_sixteen_of_a_class_count() -> None:
    assert not verdict([clause("dog")], [at("dog", 0, 0, confidence=0.3)], threshold=0.3).correct
    assert verdict([clause("dog")], [at("dog", 0, 0, confidence=0.31)], threshold=0.3).correct
    many = [at("dog", i, 0, confidence=0.5 + i / 100) for i in range(20)]
    own = kept(many, 0.3)["dog"]
    assert len(own) == MAX_OBJECTS == 16
    assert own == sorted(many, key=lambda d: -d.confidence)[:16]


@pytest.mark.parametrize(
    ("dx", "dy", "expected"),
    [
        # Two squares of 10: each axis loses 2. 10 to the right: (8, 0) / 10.
        (10, 0, {"right of"}), (-10, 0, {"left of"}), (0, 10, {"below"}), (0, -10, {"above"}),
        # (8, 8) / 14.1 = 0.57 on both axes.
        (10, 10, {"right of", "below"}), (-10, -10, {"left of", "above"}),
        # (8, 6) / 12.8 = (0.62, 0.47).
        (10, 8, {"right of"}),
        # (2.5, 0) / 4.5 = 0.56; (2, 0) / 4 = 0.5 is not above one half.
        (4.5, 0, {"right of"}), (4, 0, set()),
        # Nothing is left of the offset.
        (2, 1.5, set()), (0, 0, set()),
    ],
)  # fmt: skip
def test_relations_by_hand(dx: float, dy: float, expected: set[str]) -> None:
    assert relations(at("a", 100 + dx, 100 + dy), at("b", 100, 100)) == expected


NUMBERS = st.integers(-50, 50)
SIZES = st.integers(1, 40)


@settings(deadline=None)
@given(NUMBERS, NUMBERS, SIZES, SIZES, SIZES, SIZES)
def test_relations_are_what_the_definition_says(dx: int, dy: int, w1: int, h1: int, w2: int, h2: int) -> None:
    a = Detection("a", (dx - w1 / 2, dy - h1 / 2, dx + w1 / 2, dy + h1 / 2))
    b = Detection("b", (-w2 / 2, -h2 / 2, w2 / 2, h2 / 2))
    short = [math.copysign(max(abs(d) - 0.1 * (s + t), 0), d) for d, s, t in ((dx, w1, w2), (dy, h1, h2))]
    assume(all(abs(abs(s) / (math.hypot(dx, dy) or 1) - 0.5) > 1e-9 for s in short))
    expected = set()
    if max(map(abs, short)) >= 1e-3:
        x, y = (s / math.hypot(dx, dy) for s in short)
        expected = {
            name
            for name, true in (("left of", x < -0.5), ("right of", x > 0.5), ("above", y < -0.5), ("below", y > 0.5))
            if true
        }
    assert relations(a, b) == expected
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    assert relations(b, a) == {opposite[name] for name in expected}


def test_a_position_is_that_of_every_object_seen_from_every_target() -> None:
    include = [clause("dog", 2), clause("cat", 2, position=["right of", 0])]
    dogs = [at("dog", 0, 0), at("dog", 10, 0)]
    assert verdict(include, [*dogs, at("cat", 50, 0), at("cat", 60, 0)]).correct
    wrong = verdict(include, [*dogs, at("cat", 50, 0), at("cat", 5, 0, confidence=0.5)])
    assert not wrong.correct
    assert "instead of right of" in wrong.reason
    # Only as many targets as their own clause asks for.
    assert verdict([clause("dog"), clause("cat", position=["right of", 0])], [*dogs, at("cat", 10, 0)]).correct


def test_a_position_needs_a_target_that_was_right_itself() -> None:
    include = [clause("dog", color="red"), clause("cat", position=["right of", 0])]
    found = [at("dog", 0, 0), at("cat", 50, 0)]
    assert verdict(include, found, {0: "red"}).correct
    assert verdict(include, found, {0: "blue"}).reason == "dog is blue instead of red; nothing for cat to be right of"


def test_the_result_is_the_mean_of_categories_not_of_images() -> None:
    result = summarise([("counting", True), ("colors", False), ("counting", True), ("colors", True), ("colors", False)])
    assert result.categories == {"counting": (1.0, 2), "colors": (1 / 3, 3)}
    assert list(result.categories) == ["counting", "colors"]
    assert result.overall == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="no image"):
        summarise([])


@pytest.mark.skipif(not OFFICIAL.exists(), reason="GenEval's own file is not part of the project")
def test_the_official_prompts_are_read() -> None:
    prompts = read_prompts(OFFICIAL)
    counts = {"single_object": 80, "two_object": 99, "counting": 80, "colors": 94, "position": 100, "color_attr": 100}
    assert Counter(p["tag"] for p in prompts) == counts
    assert tuple(counts) == CATEGORIES
    for prompt in prompts:
        # As drawn by somebody who does exactly what is asked: everything in its place and colour.
        found, colors = [], {}
        for c in prompt["include"]:
            x = {"left of": -100, "right of": 100}.get(c.get("position", ["", 0])[0], 0)
            y = {"above": -100, "below": 100}.get(c.get("position", ["", 0])[0], 0)
            for _ in range(c["count"]):
                colors[len(found)] = c.get("color", "")
                found.append(at(c["class"], x, y, number=len(found)))
        assert judge(prompt, found, lambda d, colors=colors: colors[d.number]).correct
        assert not judge(prompt, found[:-1], lambda d, colors=colors: colors[d.number]).correct


GOOD = {"tag": "colors", "prompt": "a red dog", "include": [clause("dog", color="red")]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "Line 2 of"),
        ("[]", "the texts 'tag' and 'prompt'"),
        (json.dumps({**GOOD, "tag": 3}), "the texts 'tag' and 'prompt'"),
        (json.dumps({**GOOD, "include": {}}), "the list 'include'"),
        (json.dumps({**GOOD, "include": [{"count": 1}]}), "no 'class'"),
        (json.dumps({**GOOD, "include": [clause("dog", 0)]}), "no 'count' of 1 or more"),
        (json.dumps({**GOOD, "exclude": [{"class": "dog"}]}), "clause of 'exclude' has no 'count'"),
        (json.dumps({**GOOD, "include": [clause("dog", position=["left of", 0])]}), "number of an earlier clause"),
        (json.dumps({**GOOD, "include": [clause("a"), clause("b", position=["behind", 0])]}), "must be one of left of"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(f"{json.dumps(GOOD)}\n{line}\n")
    with pytest.raises(FedummError, match=message) as refusal:
        read_prompts(file)
    assert f"Line 2 of {file} is no prompt of GenEval" in str(refusal.value)


def test_no_file_and_no_prompt_are_errors(tmp_path: Path) -> None:
    with pytest.raises(FedummError, match="can't be read"):
        read_prompts(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(FedummError, match="no prompt in"):
        read_prompts(tmp_path / "empty.jsonl")
