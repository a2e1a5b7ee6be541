"""Scenes in GenEval's six categories, with captions, and combinations held back for testing.

What a scene combines (a shape with a colour, with a number, with another shape, with another in a
place) belongs to one of three parts. ``known`` combinations make the scenes that the shipped
checkpoints are pretrained on; ``new`` ones come up for the first time in this source's training
scenes; ``test`` ones only in captions to test with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations as pairs
from typing import Any

import numpy as np

from fedumm.data.shapes.scene import COLORS, RGB, Item, Scene

SHAPES = ("circle", "square", "triangle", "cross")
EXTRA_SHAPES = ("rectangle", "diamond", "star", "arrow")
"""Shapes that only come up in pretraining: that what they combine is known helps to combine the others."""

CATEGORIES = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
RELATIONS = ("left of", "right of", "above", "below")
NUMBERS = ("one", "two", "three", "four")
PARTS = ("known", "new", "test")
"""Also the order in which they are let in: training scenes hold what is known and what is new."""

_ORDER = (*SHAPES, *EXTRA_SHAPES)
_PAIR_PARTS = {("square", "cross"): "test", ("circle", "triangle"): "new"}
_FREE, _SIDE, _QUARTER = (0.15, 0.32), (0.14, 0.21), (0.12, 0.18)
"""Half sizes of a shape that has the image, half of it or a quarter of it to itself."""

_GRID = 32
Combination = tuple[str | int, ...]


@dataclass(frozen=True)
class Composed:
    """A scene and the category that its caption is of.

    ``relation`` says where the first item is seen from the second; empty unless there are two shapes.
    """

    scene: Scene
    category: str
    relation: str = ""


def part_of(combination: Combination) -> str:
    """``known``, ``new`` or ``test``: of colours seven, one and two tenths, else about three, one and one fifth.

    What has a shape that is not among :data:`SHAPES` is known: such scenes are for pretraining only.
    """
    kind, *what = combination
    if any(isinstance(name, str) and name in EXTRA_SHAPES for name in what):
        return "known"
    if kind == "pair":
        return _PAIR_PARTS.get((str(what[0]), str(what[1])), "known")
    number = SHAPES.index(str(what[0]))
    if kind == "color":
        number += list(COLORS).index(str(what[1]))
        return {0: "test", 5: "test", 1: "new"}.get(number % 10, "known")
    if kind == "count":
        number += int(what[1])
    else:
        number = 3 * number + 2 * ("left of", "above").index(str(what[1])) + SHAPES.index(str(what[2]))
    return {0: "test", 1: "new"}.get(number % 5, "known")


def combinations(composed: Composed) -> Iterator[Combination]:
    """Everything that the scene combines; left and above stand for right and below as well."""
    items = composed.scene.items
    for item in dict.fromkeys((item.shape, item.color) for item in items):
        yield ("color", *item)
    for first, second in pairs(dict.fromkeys(item.shape for item in items), 2):
        yield ("pair", *sorted((first, second), key=_ORDER.index))
    if composed.category == "counting":
        yield ("count", items[0].shape, len(items))
    if composed.relation:
        first, second = (item.shape for item in items)
        swapped = {"right of": "left of", "below": "above"}.get(composed.relation)
        yield ("place", second, swapped, first) if swapped else ("place", first, composed.relation, second)


_NAMED = {"two_object": "pair", "counting": "count", "colors": "color", "position": "place", "color_attr": "color"}


def belongs(composed: Composed, part: str) -> bool:
    """Whether a scene may be shown in ``part``.

    A test scene is one whose caption names a combination that is only there to test with. No scene of
    ``known`` and ``new`` shows one, named or not. A single object combines nothing: any will do.
    """
    parts = [(kind[0], part_of(kind)) for kind in combinations(composed)]
    if part == "test":
        named = _NAMED.get(composed.category)
        return named is None or (named, "test") in parts
    return all(PARTS.index(own) <= PARTS.index(part) for _, own in parts)


def compose(rng: np.random.Generator, category: str, part: str, shapes: Sequence[str] = SHAPES) -> Composed:
    """Draw scenes of ``category`` with ``shapes`` at random until one belongs to ``part``."""
    while True:
        composed = _sample(rng, category, shapes)
        if belongs(composed, part):
            return composed


def composed_at(index: int, seed: int, part: str) -> tuple[Composed, np.random.Generator]:
    """Scene number ``index`` of the stream ``seed``, and the generator to draw its texts from.

    The categories take turns.
    """
    rng = np.random.default_rng([seed, index])
    return compose(rng, CATEGORIES[index % len(CATEGORIES)], part), rng


def _sample(rng: np.random.Generator, category: str, shapes: Sequence[str]) -> Composed:
    background = (int(rng.integers(232, 256)),) * 3
    if category in ("single_object", "colors"):
        half = rng.uniform(*_FREE)
        x, y = rng.uniform(half, 1 - half, 2)
        items = [_item(rng, str(rng.choice(shapes)), str(rng.choice(list(COLORS))), x, y, half)]
        return Composed(Scene(background, tuple(items)), category)
    if category == "counting":
        shape, color = str(rng.choice(shapes)), str(rng.choice(list(COLORS)))
        places = rng.permutation(4)[: int(rng.integers(2, 5))]
        items = [_quarter(rng, shape, color, int(place)) for place in sorted(places)]
        return Composed(Scene(background, tuple(items)), category)
    relation = str(rng.choice(RELATIONS))
    items = _two(rng, relation, shapes)
    return Composed(Scene(background, tuple(items)), category, relation)


def _item(rng: np.random.Generator, shape: str, color: str, x: float, y: float, half: float) -> Item:
    """On the grid of a 32 x 32 image, so that edges are sharp there."""
    rgb: RGB = tuple(int(np.clip(c + rng.integers(-6, 7), 0, 255)) for c in COLORS[color])  # type: ignore[assignment]
    x, y, half = (round(_GRID * float(value)) / _GRID for value in (x, y, half))
    return Item(shape, color, rgb, x, y, half, half / (2 if shape == "rectangle" else 1))


def _within(rng: np.random.Generator, middle: float, half: float, room: float) -> float:
    """A centre at which ``half`` stays within ``room`` of ``middle``, with a gap to what lies beyond."""
    slack = max(0.0, room - half - 0.03)
    return middle + float(rng.uniform(-slack, slack))


def _quarter(rng: np.random.Generator, shape: str, color: str, place: int) -> Item:
    half = rng.uniform(*_QUARTER)
    x, y = (_within(rng, 0.25 + 0.5 * side, half, 0.25) for side in (place % 2, place // 2))
    return _item(rng, shape, color, x, y, half)


def _two(rng: np.random.Generator, relation: str, choice: Sequence[str]) -> list[Item]:
    """Two shapes of different kinds and colours in two halves of the image, the first where ``relation`` says."""
    shapes, colors = rng.choice(choice, 2, replace=False), rng.choice(list(COLORS), 2, replace=False)
    middles = (0.25, 0.75) if relation in ("left of", "above") else (0.75, 0.25)
    items = []
    for shape, color, middle in zip(shapes, colors, middles, strict=True):
        half = rng.uniform(*_SIDE)
        along = _within(rng, middle, half, 0.25)
        # Not far off the axis, so that the pair is not diagonal: that would be two relations at once.
        across = float(np.clip(0.5 + rng.uniform(-0.1, 0.1), half, 1 - half))
        x, y = (along, across) if relation in ("left of", "right of") else (across, along)
        items.append(_item(rng, str(shape), str(color), x, y, half))
    return items


def article(noun: str) -> str:
    """``noun`` with a or an."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(shape: str) -> str:
    """More than one of ``shape``."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def caption(composed: Composed, colored: bool = False) -> dict[str, Any]:
    """The caption as a prompt of GenEval: ``tag``, ``include``, ``exclude`` and ``prompt``.

    Args:
        colored: also name the colours in a caption on position.
    """
    items, category = composed.scene.items, composed.category
    named = category in ("colors", "color_attr") or (category == "position" and colored)
    nouns = [f"{item.color} {item.shape}" if named else item.shape for item in items]
    include: list[dict[str, Any]] = [
        {"class": item.shape, "count": 1} | ({"color": item.color} if named else {}) for item in items
    ]
    if category == "counting":
        shape, count = items[0].shape, len(items)
        return {
            "tag": category,
            "include": [{"class": shape, "count": count}],
            "exclude": [{"class": shape, "count": count + 1}],
            "prompt": f"{NUMBERS[count - 1]} {plural(shape)}",
        }
    if category == "position":
        # The clause that has a place comes second in GenEval's files, and points at the first.
        include = [include[1], include[0] | {"position": [composed.relation, 0]}]
        text = f"{article(nouns[0])} {composed.relation} {article(nouns[1])}"
    else:
        text = " and ".join(map(article, nouns))
    return {"tag": category, "include": include, "prompt": text}


def named_combinations(metadata: Mapping[str, Any]) -> Iterator[Combination]:
    """The combinations that a caption names: what training and test captions must not share."""
    clauses = metadata["include"]
    for clause in clauses:
        if "color" in clause:
            yield ("color", clause["class"], clause["color"])
        if clause["count"] > 1:
            yield ("count", clause["class"], clause["count"])
        if "position" in clause:
            relation, other = clause["position"][0], clauses[clause["position"][1]]["class"]
            swapped = {"right of": "left of", "below": "above"}.get(relation)
            yield ("place", other, swapped, clause["class"]) if swapped else ("place", clause["class"], relation, other)
    if len(clauses) == 2:
        yield ("pair", *sorted((clause["class"] for clause in clauses), key=_ORDER.index))
