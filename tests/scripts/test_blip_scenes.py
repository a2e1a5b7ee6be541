"""Drawn scenes and questions on them, checked by an oracle that knows only the words and the scene."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

from blip_scenes import SHAPES, Question, ask, sample_scene, scene_at, words
from fedumm.data.shapes.scene import COLORS, Item, Scene, draw

SCENES, QUESTIONS = 600, 8
COVERAGE = {"rectangle": (0.9, 1.01), "circle": (np.pi / 4 - 0.08, np.pi / 4 + 0.08), "triangle": (0.42, 0.58)}
"""Share of its bounding box that a shape fills: 1, pi/4 and 1/2, less what the edges blur."""


@cache
def asked() -> list[tuple[Scene, Question]]:
    def draw_all() -> Iterator[tuple[Scene, Question]]:
        for index in range(SCENES):
            scene, rng = scene_at(index, seed=77)
            for _ in range(QUESTIONS):
                yield scene, ask(rng, scene)

    return list(draw_all())


def tokens(text: str) -> list[str]:
    return text.replace("?", "").split()


def oracle(scene: Scene, text: str) -> str:
    """The answer, from the words alone: which items fit them, and what is asked about those."""
    heard = tokens(text)
    fitting = [
        item
        for place, item in zip(("left", "right") if len(scene.items) == 2 else ("",), scene.items, strict=True)
        if all(word not in SHAPES or word == item.shape for word in heard)
        and all(word not in COLORS or word == item.color for word in heard)
        and all(word not in ("left", "right") or word == place for word in heard)
    ]
    if heard[:2] == ["how", "many"]:
        return str(len(fitting))
    if heard[0] not in ("what", "which"):
        return "yes" if bool(fitting) != bool({"no", "not"} & set(heard)) else "no"
    (item,) = fitting
    return item.color if "color" in heard else item.shape


def test_answers_are_right() -> None:
    wrong = [(q.text, q.answer, scene) for scene, q in asked() if oracle(scene, q.text) != q.answer]
    assert not wrong


def test_answer_types_fit_the_answers() -> None:
    kinds = {"yes": "yes/no", "no": "yes/no", **dict.fromkeys(COLORS, "color"), **dict.fromkeys(SHAPES, "shape")}
    assert all(kinds.get(q.answer, "number") == q.answer_type for _, q in asked())
    assert {q.answer_type for _, q in asked()} == {"yes/no", "color", "shape", "number"}


def test_yes_and_no_are_equally_frequent_in_every_kind_of_question() -> None:
    """So the words of a question do not give its answer away."""
    counts: dict[tuple[str, bool], Counter[str]] = {}
    for _, question in asked():
        if question.answer_type == "yes/no":
            heard = tokens(question.text)
            kind = " ".join(heard[:2]), bool({"no", "not"} & set(heard))
            counts.setdefault(kind, Counter())[question.answer] += 1
    assert len(counts) >= 5
    for kind, count in counts.items():
        tolerance = 3.5 * 0.5 / count.total() ** 0.5
        assert abs(count["yes"] / count.total() - 0.5) < tolerance, (kind, count)


def test_half_of_the_questions_are_yes_no() -> None:
    share = sum(q.answer_type == "yes/no" for _, q in asked()) / len(asked())
    assert abs(share - 0.5) < 0.04


def test_words_are_those_that_occur() -> None:
    heard = {word for _, q in asked() for word in (*tokens(q.text), q.answer)}
    assert heard <= set(words())
    assert words() == sorted(set(words()))
    assert set(words()) - heard == set()


def test_a_scene_number_names_one_scene_with_its_questions() -> None:
    def at(index: int, seed: int) -> tuple[Scene, bytes, list[Question]]:
        scene, rng = scene_at(index, seed)
        return scene, draw(scene).tobytes(), [ask(rng, scene) for _ in range(3)]

    assert [at(i, 5) for i in range(10)] == [at(i, 5) for i in reversed(range(10))][::-1]
    assert len({scene_at(i, seed)[0] for i in range(200) for seed in range(3)}) == 600


@pytest.mark.parametrize(("two", "count"), [(0.0, {1}), (1.0, {2}), (0.5, {1, 2})])
def test_number_of_shapes(two: float, count: set[int]) -> None:
    rng = np.random.default_rng(0)
    assert {len(sample_scene(rng, two).items) for _ in range(40)} == count


def test_no_two_shapes_touch_or_are_alike() -> None:
    for index in range(SCENES):
        scene, _ = scene_at(index, seed=78, two=1.0)
        left, right = scene.items
        assert left.shape != right.shape
        assert left.color != right.color
        assert left.x - left.half_width >= 0
        assert left.x + left.half_width <= 0.5 + 1e-9
        assert right.x - right.half_width >= 0.5 - 1e-9
        assert right.x + right.half_width <= 1 + 1e-9
        assert all(i.y - i.half_height >= 0 and i.y + i.half_height <= 1 for i in scene.items)


def coverage(pixels: np.ndarray, item: Item, background: tuple[int, int, int]) -> float:
    """Share of the pixels around ``item`` that are nearer its colour than the background's."""
    side = len(pixels)
    rows = slice(round((item.y - item.half_height) * side), round((item.y + item.half_height) * side))
    columns = slice(round((item.x - item.half_width) * side), round((item.x + item.half_width) * side))
    box = pixels[rows, columns].astype(float)
    own, ground = (np.linalg.norm(box - np.array(color), axis=-1) for color in (item.rgb, background))
    return float((own < ground).mean())


def test_the_picture_shows_the_scene() -> None:
    seen = Counter[str]()
    for index in range(80):
        scene, _ = scene_at(index, seed=79, two=0.5)
        image = draw(scene, 192)
        assert (image.mode, image.size) == ("RGB", (192, 192))
        pixels = np.asarray(image)
        for item in scene.items:
            seen[item.shape] += 1
            assert tuple(pixels[int(item.y * 192), int(item.x * 192)]) == item.rgb
            low, high = COVERAGE[item.shape]
            assert low < coverage(pixels, item, scene.background) < high, item
    assert set(seen) == set(SHAPES)


def test_colours_keep_to_their_names() -> None:
    """The shade as drawn is nearer its own colour than any other."""
    for index in range(SCENES):
        for item in scene_at(index, seed=80)[0].items:
            distance = {name: float(np.linalg.norm(np.subtract(rgb, item.rgb))) for name, rgb in COLORS.items()}
            assert min(distance, key=distance.__getitem__) == item.color
