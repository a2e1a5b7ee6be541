"""The scenes and questions that the checkpoint ``tiny`` of ``blip_vqa`` is pretrained on.

A scene is a plain background with one or two flat-coloured shapes. Everything is drawn from one
seeded generator, so a scene number names the same image and the same questions on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedumm.data.shapes.scene import COLORS, Item, Scene

SHAPES = ("circle", "rectangle", "triangle")


@dataclass(frozen=True)
class Question:
    """A question on a scene, its answer, and the answer's type (yes/no, color, shape, number)."""

    text: str
    answer: str
    answer_type: str


def _jitter(rng: np.random.Generator, rgb: tuple[int, int, int]) -> tuple[int, int, int]:
    r, g, b = (int(np.clip(c + rng.integers(-14, 15), 0, 255)) for c in rgb)
    return r, g, b


def _item(rng: np.random.Generator, shape: str, color: str, left: float, right: float) -> Item:
    """A shape somewhere in the vertical strip ``left..right`` of the unit square."""
    room = (right - left) / 2
    half_width = rng.uniform(0.09, min(0.27, room))
    half_height = half_width
    if shape == "rectangle":
        half_height = float(np.clip(half_width * rng.uniform(0.5, 1.8), 0.06, 0.27))
    return Item(
        shape,
        color,
        _jitter(rng, COLORS[color]),
        rng.uniform(left + half_width, right - half_width),
        rng.uniform(half_height, 1 - half_height),
        half_width,
        half_height,
    )


def sample_scene(rng: np.random.Generator, two: float = 0.25) -> Scene:
    """Draw a scene at random; with probability ``two`` it has two shapes side by side."""
    background = tuple(int(c) for c in rng.integers(224, 256, 3))
    count = 2 if rng.random() < two else 1
    shapes = rng.choice(SHAPES, count, replace=False)
    colors = rng.choice(list(COLORS), count, replace=False)
    edges = [0.0, 1.0] if count == 1 else [0.0, 0.5, 1.0]
    items = [
        _item(rng, str(s), str(c), left, right)
        for s, c, left, right in zip(shapes, colors, edges, edges[1:], strict=False)
    ]
    return Scene(background, tuple(items))  # type: ignore[arg-type]


def _pick(rng: np.random.Generator, options: list[str] | tuple[str, ...]) -> str:
    return str(options[int(rng.integers(len(options)))])


def _other(rng: np.random.Generator, options: list[str] | tuple[str, ...], taken: set[str]) -> str:
    return _pick(rng, [o for o in options if o not in taken])


_COLOR = ("what color is the {shape}?", "what is the color of the {shape}?", "which color does the {shape} have?")
_SHAPE = ("what is the {color} shape?", "what shape is {color}?", "which shape is {color}?")
_ONLY_SHAPE = ("what shape is in the image?", "which shape can you see?", "what shape is there?")
_EXISTS = (
    "is there a {thing}?",
    "is there a {thing} in the image?",
    "can you see a {thing}?",
    "do you see a {thing} in the image?",
)
_ABSENT = ("is there no {thing}?", "can you see no {thing}?")
_IS = ("is the {shape} {color}?",)
_IS_NOT = ("is the {shape} not {color}?",)


def _thing(rng: np.random.Generator, scene: Scene, present: bool) -> str:
    """A noun phrase (a colour, a shape, or both) that is, or is not, in the scene.

    An absent one differs in one property from what is there as often as in both.
    """
    item = scene.items[int(rng.integers(len(scene.items)))]
    kind = int(rng.integers(3))
    shape, color = item.shape, item.color
    if not present:
        no_shape = _other(rng, SHAPES, {i.shape for i in scene.items})
        no_color = _other(rng, list(COLORS), {i.color for i in scene.items})
        change = int(rng.integers(3)) if kind == 0 else 2
        shape = shape if change == 0 else no_shape
        color = color if change == 1 else no_color
    return (f"{color} {shape}", shape, f"{color} shape")[kind]


def _yes_no(rng: np.random.Generator, scene: Scene, negation: bool) -> Question:
    truth = bool(rng.integers(2))
    if rng.random() < 0.25:
        item = scene.items[int(rng.integers(len(scene.items)))]
        color = item.color if truth else _other(rng, list(COLORS), {item.color})
        negated = rng.random() < 0.4 and negation
        text = _pick(rng, _IS_NOT if negated else _IS).format(shape=item.shape, color=color)
    else:
        negated = rng.random() < 0.3 and negation
        text = _pick(rng, _ABSENT if negated else _EXISTS).format(thing=_thing(rng, scene, truth))
    return Question(text, "yes" if truth != negated else "no", "yes/no")


def _color(rng: np.random.Generator, scene: Scene) -> Question:
    item = scene.items[int(rng.integers(len(scene.items)))]
    name = "shape" if len(scene.items) == 1 and rng.random() < 0.5 else item.shape
    return Question(_pick(rng, _COLOR).format(shape=name), item.color, "color")


def _shape(rng: np.random.Generator, scene: Scene) -> Question:
    item = scene.items[int(rng.integers(len(scene.items)))]
    forms = _ONLY_SHAPE + _SHAPE if len(scene.items) == 1 else _SHAPE
    return Question(_pick(rng, forms).format(color=item.color), item.shape, "shape")


def _position(rng: np.random.Generator, scene: Scene) -> Question:
    left, right = scene.items
    if rng.random() < 0.4:
        return Question("how many shapes are there?", "2", "number")
    side, item = ("left", left) if rng.random() < 0.5 else ("right", right)
    if rng.random() < 0.5:
        return Question(f"what color is the shape on the {side}?", item.color, "color")
    return Question(f"what shape is on the {side}?", item.shape, "shape")


def ask(rng: np.random.Generator, scene: Scene, negation: bool = True) -> Question:
    """Draw one question on ``scene``: half yes/no (as often yes as no), else what it looks like.

    Without ``negation``, questions with "not" or "no" ("is there no circle?") are asked the other way.
    """
    draw_kind = rng.random()
    if draw_kind < 0.5:
        return _yes_no(rng, scene, negation)
    if len(scene.items) == 2 and draw_kind < 0.62:
        return _position(rng, scene)
    if draw_kind < 0.53:
        return Question("how many shapes are there?", str(len(scene.items)), "number")
    return _color(rng, scene) if draw_kind < 0.77 else _shape(rng, scene)


def scene_at(index: int, seed: int = 0, two: float = 0.25) -> tuple[Scene, np.random.Generator]:
    """Scene number ``index`` of the stream ``seed``, and the generator to draw its questions from."""
    rng = np.random.default_rng([seed, index])
    return sample_scene(rng, two), rng


def words() -> list[str]:
    """Every word that this source's questions and answers can contain, sorted."""
    forms = " ".join((*_COLOR, *_SHAPE, *_ONLY_SHAPE, *_EXISTS, *_ABSENT, *_IS, *_IS_NOT))
    forms += " how many shapes are there on the left right 1 2 yes no shape "
    forms += " ".join((*COLORS, *SHAPES))
    tokens = forms.replace("?", " ").split()
    return sorted({t for t in tokens if not t.startswith("{")})
