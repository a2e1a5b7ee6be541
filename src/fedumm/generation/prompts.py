"""Prompts of the project's own scenes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fedumm.data.shapes.compose import CATEGORIES, caption, composed_at
from fedumm.data.shapes.source import EVAL_SEED

_SCENES = 3000
"""Enough to have met every caption; of some categories there are few."""


def shapes_prompts(count: int) -> list[dict[str, Any]]:
    """Up to ``count`` distinct captions to test with, the categories in turn as far as they go.

    What they combine is in no training scene of ``--dataset shapes``.
    """
    found: dict[str, dict[str, Any]] = {}
    taken: Counter[str] = Counter()
    most = -(-count // len(CATEGORIES))
    spare: dict[str, dict[str, Any]] = {}
    for index in range(_SCENES):
        composed, rng = composed_at(index, EVAL_SEED, "test")
        prompt = caption(composed, colored=bool(rng.integers(2)))
        text, tag = prompt["prompt"], prompt["tag"]
        if text not in found and taken[tag] < most:
            found[text] = prompt
            taken[tag] += 1
        elif text not in found:
            spare.setdefault(text, prompt)
    # Where a category has too few captions, others take its place.
    chosen = [*found.values(), *spare.values()][:count]
    return sorted(chosen, key=lambda prompt: CATEGORIES.index(prompt["tag"]))
