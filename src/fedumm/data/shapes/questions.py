"""Questions on composed scenes, and their answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fedumm.data.shapes.compose import EXTRA_SHAPES, NUMBERS, RELATIONS, SHAPES, Composed, article, plural
from fedumm.data.shapes.scene import COLORS, Item


@dataclass(frozen=True)
class Question:
    """A question, its answer, the answer's type (yes/no, color, shape, number) and the ability it asks for."""

    text: str
    answer: str
    answer_type: str
    category: str


_IS_WHERE = {"left of": "to the left of", "right of": "to the right of", "above": "above", "below": "below"}
_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _other(rng: np.random.Generator, options: Sequence[str], taken: set[str]) -> str:
    return _pick(rng, [o for o in options if o not in taken])


def _any(rng: np.random.Generator, composed: Composed) -> Item:
    items = composed.scene.items
    return items[int(rng.integers(len(items)))]


def _which(rng: np.random.Generator, composed: Composed) -> Question:
    return Question("what shape is in the image?", _any(rng, composed).shape, "shape", "single_object")


def _exists(rng: np.random.Generator, composed: Composed) -> Question:
    there = {item.shape for item in composed.scene.items}
    truth = bool(rng.integers(2))
    shape = _any(rng, composed).shape if truth else _other(rng, [*SHAPES, *(there & {*EXTRA_SHAPES})], there)
    return Question(f"is there {article(shape)}?", "yes" if truth else "no", "yes/no", "two_object")


def _count(rng: np.random.Generator, composed: Composed) -> Question:
    items = composed.scene.items
    shape = _any(rng, composed).shape
    if len({item.shape for item in items}) > 1:
        return Question("how many shapes are there?", str(len(items)), "number", "counting")
    return Question(f"how many {plural(shape)} are there?", str(len(items)), "number", "counting")


def _color(rng: np.random.Generator, composed: Composed) -> Question:
    item = _any(rng, composed)
    verb, noun = ("is", item.shape) if _single(composed, item) else ("are", plural(item.shape))
    return Question(f"what color {verb} the {noun}?", item.color, "color", "colors")


def _single(composed: Composed, item: Item) -> bool:
    return sum(other.shape == item.shape for other in composed.scene.items) == 1


def _place(rng: np.random.Generator, composed: Composed) -> Question:
    first, second = composed.scene.items
    relation = composed.relation
    if rng.random() < 0.5:
        first, second, relation = second, first, _OPPOSITE[relation]
    if rng.random() < 0.5:
        return Question(f"what shape is {_IS_WHERE[relation]} the {second.shape}?", first.shape, "shape", "position")
    truth = bool(rng.integers(2))
    asked = relation if truth else _OPPOSITE[relation]
    text = f"is the {first.shape} {_IS_WHERE[asked]} the {second.shape}?"
    return Question(text, "yes" if truth else "no", "yes/no", "position")


def _attribute(rng: np.random.Generator, composed: Composed) -> Question:
    """Is this shape of this colour? If not, it is as often the other shape's as one that is not there."""
    item = _any(rng, composed)
    truth = bool(rng.integers(2))
    others = sorted({other.color for other in composed.scene.items} - {item.color})
    color = item.color
    if not truth:
        color = others[0] if others and rng.random() < 0.5 else _other(rng, list(COLORS), {item.color, *others})
    noun = f"{color} {item.shape}"
    return Question(f"is there {article(noun)}?", "yes" if truth else "no", "yes/no", "color_attr")


_ONE: tuple[Callable[[np.random.Generator, Composed], Question], ...] = (_which, _exists, _count, _color, _attribute)
_SEVERAL = (_count, _count, _exists, _color, _which)
_TWO = (_place, _place, _exists, _color, _attribute, _count)


def ask(rng: np.random.Generator, composed: Composed, count: int) -> list[Question]:
    """``count`` different questions on a scene."""
    items = composed.scene.items
    kinds = _TWO if composed.relation else _ONE if len(items) == 1 else _SEVERAL
    asked: dict[str, Question] = {}
    while len(asked) < count:
        question = kinds[int(rng.integers(len(kinds)))](rng, composed)
        asked.setdefault(question.text, question)
    return list(asked.values())


def words() -> list[str]:
    """Every word that captions, questions and answers of scenes can contain, sorted."""
    text = "a an and is are there in the image what color shape shapes how many of to yes no 1 2 3 4"
    shapes = (*SHAPES, *EXTRA_SHAPES)
    known = (*COLORS, *shapes, *map(plural, shapes), *RELATIONS, *_IS_WHERE.values(), *NUMBERS)
    return sorted({*text.split(), *" ".join(known).split()})
