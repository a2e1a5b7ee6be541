"""The project's own scenes: the same each time, and true in their questions and captions."""

from __future__ import annotations

from collections import Counter

import pytest
from datasets import disable_progress_bars
from hypothesis import given, settings
from hypothesis import strategies as st

from fedumm.data import DataRequest, load_data
from fedumm.data.shapes import source as shapes_set
from fedumm.data.shapes.compose import CATEGORIES, caption, combinations, composed_at, named_combinations, part_of
from fedumm.data.shapes.questions import ask
from fedumm.data.shapes.scene import Scene
from support.rows import digests

BLIP = ("image", "question", "multiple_choice_answer", "answers")
BOTH = {"vqa": 5, "t2i": 4}


@pytest.fixture(scope="module", autouse=True)
def _no_bars() -> None:
    disable_progress_bars()


@pytest.mark.parametrize("mix", [{"vqa": 1}, {"t2i": 1}, BOTH])
def test_shapes_are_the_same_each_time(mix: dict[str, int]) -> None:
    request = DataRequest(columns=("image",), mix=mix, max_train_samples=40, max_eval_samples=20)
    first, again = (load_data("shapes", request) for _ in range(2))
    for split in ("train", "eval"):
        one, other = getattr(first, split), getattr(again, split)
        assert digests(one) == digests(other)
        assert one.remove_columns("image").to_list() == other.remove_columns("image").to_list()


@pytest.mark.parametrize(("train", "test"), [(1, 4), (5, 9), (20, 3)])
def test_shapes_draw_no_more_scenes_than_needed(monkeypatch: pytest.MonkeyPatch, train: int, test: int) -> None:
    drawn: list[Scene] = []
    draw = shapes_set.draw
    monkeypatch.setattr(shapes_set, "draw", lambda scene, **size: drawn.append(scene) or draw(scene, **size))
    splits = load_data("shapes", DataRequest(columns=BLIP, max_train_samples=train, max_eval_samples=test))
    assert (len(splits.train), len(splits.eval)) == (train, test)
    per_scene = shapes_set.QUESTIONS
    assert len(drawn) == -(-train // per_scene) + -(-test // per_scene)


def test_shapes_whole_set_has_the_documented_size(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (shapes_set.TRAIN_SCENES, shapes_set.EVAL_SCENES, shapes_set.QUESTIONS) == (2000, 300, 2)
    monkeypatch.setattr(shapes_set, "TRAIN_SCENES", 6)
    monkeypatch.setattr(shapes_set, "EVAL_SCENES", 3)
    for limit in (-1, 100):
        request = DataRequest(columns=(*BLIP, "caption"), mix=BOTH, max_train_samples=limit, max_eval_samples=limit)
        splits = load_data("shapes", request)
        assert Counter(splits.train["task"]) == {"vqa": 12, "t2i": 6}
        assert Counter(splits.eval["task"]) == {"vqa": 6, "t2i": 3}


def test_shapes_never_show_a_scene_of_another_split_or_of_the_pretraining() -> None:
    scenes = 150
    request = DataRequest(columns=("image",), mix={"t2i": 1}, max_train_samples=scenes, max_eval_samples=scenes)
    splits = load_data("shapes", request)
    train, test = set(digests(splits.train)), set(digests(splits.eval))
    assert len(train) == len(test) == scenes
    assert not train & test
    assert not set(splits.train["image_id"]) & set(splits.eval["image_id"])
    assert (shapes_set.TRAIN_SEED, shapes_set.EVAL_SEED) == (2, 3)


def test_captions_to_test_with_combine_what_no_training_scene_shows() -> None:
    shown = {kind for i in range(1500) for kind in combinations(composed_at(i, 2, "new")[0])}
    asked = Counter[str]()
    for i in range(300):
        composed, _ = composed_at(i, 3, "test")
        named = set(named_combinations(caption(composed, colored=True)))
        asked[composed.category] += 1
        if composed.category != "single_object":
            assert named - shown, f"{caption(composed)['prompt']} is nothing new"
    assert set(asked) == set(CATEGORIES)
    assert {part_of(kind) for kind in shown} == {"known", "new"}


@given(index=st.integers(0, 10_000), part=st.sampled_from(["known", "new", "test"]), colored=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_caption_says_what_the_scene_shows(index: int, part: str, colored: bool) -> None:
    composed, _ = composed_at(index, 9, part)
    said = caption(composed, colored)
    items = composed.scene.items
    for clause in said["include"]:
        own = [i for i in items if i.shape == clause["class"] and clause.get("color", i.color) == i.color]
        assert len(own) >= clause["count"]
        assert clause["class"] in said["prompt"]
        assert clause.get("color", "") in said["prompt"]
        if "position" in clause:
            relation, other = clause["position"][0], said["include"][clause["position"][1]]["class"]
            (one,), (two,) = ([i for i in items if i.shape == name] for name in (clause["class"], other))
            dx, dy = one.x - two.x, one.y - two.y
            true = {"left of": dx < 0, "right of": dx > 0, "above": dy < 0, "below": dy > 0}
            assert true[relation]
            assert said["prompt"].index(clause["class"]) < said["prompt"].index(other)
    for clause in said.get("exclude", ()):
        assert sum(i.shape == clause["class"] for i in items) < clause["count"]


@given(index=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_answers_are_what_the_scene_shows(index: int) -> None:
    composed, rng = composed_at(index, 9, "new")
    items = composed.scene.items
    for question in ask(rng, composed, 2):
        words = question.text.rstrip("?").split()
        if question.answer_type == "number":
            assert int(question.answer) == len(items)
        elif question.answer_type == "color":
            shape = words[-1].removesuffix("s") if words[2] == "are" else words[-1]
            assert {question.answer} == {i.color for i in items if i.shape in (shape, words[-1].removesuffix("es"))}
        elif question.category == "color_attr":
            truth = any((i.color, i.shape) == (words[-2], words[-1]) for i in items)
            assert question.answer == ("yes" if truth else "no")
        elif question.category == "two_object":
            assert question.answer == ("yes" if any(i.shape == words[-1] for i in items) else "no")
        elif question.category == "single_object":
            assert question.answer in {i.shape for i in items}
        else:
            assert question.category == "position"
            seen = {(a.shape, b.shape): (a.x - b.x, a.y - b.y) for a in items for b in items if a is not b}
            where = next(name for name in ("left", "right", "above", "below") if name in words)
            asker = words[-1]
            asked = words[2] if question.answer_type == "yes/no" else question.answer
            dx, dy = seen[asked, asker]
            truth = {"left": dx < 0, "right": dx > 0, "above": dy < 0, "below": dy > 0}[where]
            assert truth == (question.answer != "no")
