"""GenEval (Ghosh et al., 2023, https://arxiv.org/abs/2310.11513): does an image show what its prompt says?

The rule of the official ``evaluate_images.py``, as a pure function on detections. What finds and names
objects is a detector's business (:mod:`fedumm.detectors`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedumm.errors import FedummError

CATEGORIES = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
RELATIONS = ("left of", "right of", "above", "below")
MAX_OBJECTS = 16
"""Detections of one class that count, the most confident ones."""

_SHRINK, _MARGIN, _NOWHERE = 0.1, 0.5, 1e-3

Prompt = Mapping[str, Any]
"""A line of GenEval's file: ``tag``, ``prompt``, ``include`` and perhaps ``exclude``."""


@dataclass(frozen=True)
class Detection:
    """An object: its class, its box (left, top, right, bottom) in pixels, and how sure the detector is (0..1).

    ``number`` is for the detector, to find the object again.
    """

    name: str
    box: tuple[float, float, float, float]
    confidence: float = 1.0
    number: int = 0


@dataclass(frozen=True)
class Verdict:
    """Whether an image is right; if not, ``reason`` says everything that is wrong."""

    correct: bool
    reason: str = ""


def relations(a: Detection, b: Detection) -> set[str]:
    """Where ``a`` is, seen from ``b``: up to two of :data:`RELATIONS`.

    The offset between the centres is shortened on each axis by a tenth of both sizes. What is left, over
    the length of the offset, must pass one half.
    """
    boxes = np.array([a.box, b.box], np.float64).reshape(2, 2, 2)
    centres, sizes = boxes.mean(1), np.abs(np.diff(boxes, axis=1))[:, 0]
    offset = centres[0] - centres[1]
    left = np.maximum(np.abs(offset) - _SHRINK * sizes.sum(0), 0) * np.sign(offset)
    if (np.abs(left) < _NOWHERE).all():
        return set()
    dx, dy = left / np.linalg.norm(offset)
    where = {"left of": dx < -_MARGIN, "right of": dx > _MARGIN, "above": dy < -_MARGIN, "below": dy > _MARGIN}
    return {name for name, true in where.items() if true}


def kept(detections: Iterable[Detection], threshold: float) -> dict[str, list[Detection]]:
    """What counts of each class: above ``threshold``, the most confident first, at most :data:`MAX_OBJECTS`."""
    by_name: dict[str, list[Detection]] = {}
    for detection in sorted(detections, key=lambda d: -d.confidence):
        own = by_name.setdefault(detection.name, [])
        if detection.confidence > threshold and len(own) < MAX_OBJECTS:
            own.append(detection)
    return by_name


def judge(
    prompt: Prompt, detections: Iterable[Detection], color_of: Callable[[Detection], str], threshold: float = 0.0
) -> Verdict:
    """Whether an image shows what ``prompt`` asks for.

    Every clause of ``include`` must hold: of its class there are ``count`` objects; the ``count`` most
    confident ones all have its ``color``; and each of them lies, seen from each object of an earlier
    clause, as its ``position`` says. No clause of ``exclude`` may hold.

    Args:
        color_of: names the colour of an object; asked only where a clause names one.
        threshold: least confidence, exclusive.
    """
    found = kept(detections, threshold)
    wrong: list[str] = []
    groups: list[list[Detection] | None] = []
    for clause in prompt.get("include", ()):
        own = found.get(clause["class"], [])[: clause["count"]]
        problem = _problem(clause, own, groups, color_of)
        groups.append(None if problem else own)
        wrong += [problem] if problem else []
    for clause in prompt.get("exclude", ()):
        there = len(found.get(clause["class"], ()))
        if there >= clause["count"]:
            wrong.append(f"{there} {clause['class']}, and {clause['count']} are too many")
    return Verdict(not wrong, "; ".join(wrong))


def _problem(
    clause: Mapping[str, Any],
    own: Sequence[Detection],
    groups: Sequence[Sequence[Detection] | None],
    color_of: Callable[[Detection], str],
) -> str:
    name, count = clause["class"], clause["count"]
    if len(own) < count:
        return f"{len(own)} {name} instead of {count}"
    if "color" in clause:
        colors = [color_of(detection) for detection in own]
        if colors.count(clause["color"]) < count:
            return f"{name} is {', '.join(colors)} instead of {clause['color']}"
    if "position" in clause:
        relation, target = clause["position"]
        others = groups[target]
        if others is None:
            return f"nothing for {name} to be {relation}"
        for detection in own:
            for other in others:
                if relation not in (there := relations(detection, other)):
                    return f"{name} is {' and '.join(sorted(there)) or 'nowhere clear'} instead of {relation}"
    return ""


@dataclass(frozen=True)
class GenEvalResult:
    """Shares (0..1) of right images and numbers of images, by category in order of :data:`CATEGORIES`."""

    categories: dict[str, tuple[float, int]]

    @property
    def overall(self) -> float:
        """The mean over categories, however many images they have."""
        return sum(share for share, _ in self.categories.values()) / len(self.categories)


def summarise(verdicts: Iterable[tuple[str, bool]]) -> GenEvalResult:
    """The result of images' categories and whether they are right.

    Raises:
        ValueError: there is no image.
    """
    by_tag: dict[str, list[bool]] = {}
    for tag, correct in verdicts:
        by_tag.setdefault(tag, []).append(correct)
    if not by_tag:
        raise ValueError("no image to summarise")
    order = sorted(by_tag, key=lambda tag: (CATEGORIES.index(tag) if tag in CATEGORIES else len(CATEGORIES), tag))
    return GenEvalResult({tag: (sum(by_tag[tag]) / len(by_tag[tag]), len(by_tag[tag])) for tag in order})


def read_prompts(path: str | Path) -> list[dict[str, Any]]:
    """The prompts of a file like GenEval's ``evaluation_metadata.jsonl``: a JSON object a line.

    Raises:
        FedummError: the file or a line of it can't be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise FedummError(f"The prompts in {path} can't be read: {error}") from error
    prompts = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                prompts.append(check_prompt(json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise FedummError(f"Line {number} of {path} is no prompt of GenEval: {error}") from error
    if not prompts:
        raise FedummError(f"There is no prompt in {path}.")
    return prompts


def check_prompt(prompt: Any) -> dict[str, Any]:
    """``prompt`` itself, if it is one.

    Raises:
        ValueError: a key is missing or holds something else than it should.
    """
    if not isinstance(prompt, dict) or not all(isinstance(prompt.get(key), str) for key in ("tag", "prompt")):
        raise ValueError("it needs the texts 'tag' and 'prompt'")
    if not isinstance(prompt.get("include"), list) or not isinstance(prompt.get("exclude", []), list):
        raise ValueError("it needs the list 'include'")
    for kind in ("include", "exclude"):
        for place, clause in enumerate(prompt.get(kind, [])):
            if not isinstance(clause, dict) or not isinstance(clause.get("class"), str):
                raise ValueError(f"a clause of '{kind}' has no 'class'")
            if type(clause.get("count")) is not int or clause["count"] < 1:
                raise ValueError(f"a clause of '{kind}' has no 'count' of 1 or more")
            if kind == "include" and "position" in clause:
                _check_position(clause["position"], place)
    return prompt


def _check_position(position: Any, place: int) -> None:
    good = isinstance(position, list) and len(position) == 2 and position[0] in RELATIONS
    if not good or type(position[1]) is not int or not 0 <= position[1] < place:
        raise ValueError(f"a 'position' must be one of {', '.join(RELATIONS)} and the number of an earlier clause")
