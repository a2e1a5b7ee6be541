"""What training and evaluating give back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedumm.adapters.state import AdapterState


@dataclass(frozen=True)
class TrainResult:
    """What local training did.

    ``loss`` is the mean training loss per sample over all epochs, measured while the weights
    moved, ``losses`` the same for each task; ``samples`` the size of the data set, ``steps`` the
    optimiser steps; ``adapter`` all of the adapter that got a gradient.
    """

    loss: float
    losses: dict[str, float]
    samples: int
    steps: int
    seconds: float
    adapter: AdapterState = field(repr=False)


@dataclass(frozen=True)
class Evaluation:
    """A score in 0..1 (or the backend's own unit) on one task, and the number of samples it is a mean of.

    ``parts`` holds the same pair for named subsets, for example answer types; ``loss`` the mean loss in
    nats, where the task has one.
    """

    score: float
    count: int
    parts: dict[str, tuple[float, int]]
    loss: float | None = None


Scores = dict[str, Evaluation]
"""By task; ``geneval`` is that of images drawn."""

GENEVAL = "geneval"
_ORDER = ("vqa", "t2i", GENEVAL)


def describe(scores: Scores) -> str:
    """Scores in a few words."""
    texts = [
        f"{'geneval' if task == GENEVAL else 'acc'}={own.score:.4f}"
        if own.loss is None
        else f"image={own.loss:.3f} nats"
        for task, own in sorted(scores.items(), key=lambda entry: list(_ORDER).index(entry[0]))
    ]
    return "  ".join(texts)
