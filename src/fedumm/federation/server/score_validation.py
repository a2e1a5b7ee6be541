"""Can a score be what a client or a host says it is? By what was announced before, and by what a score is.

A score that lies within its range is believed: nobody but its client has the rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fedumm.errors import FedummError
from fedumm.metrics.evaluation import Evaluation, Scores
from fedumm.metrics.geneval import CATEGORIES
from fedumm.tasks import GENEVAL, TASKS

MOST_SAMPLES = 10**9
"""No client has more."""

MOST_NATS = 1e4
"""No loss of a shipped backend is larger."""

_HIGHEST = 1e6
"""No score or loss of a user's own backend is larger, whatever its unit."""


@dataclass(frozen=True)
class Range:
    """What numbers of a backend can be: of a shipped one (``unit``) scores are shares, losses are in nats."""

    unit: bool

    def score(self, task: str) -> tuple[float, float]:
        """The lowest and the highest."""
        if task == GENEVAL.name or self.unit:
            return (TASKS[task].lowest if task in TASKS else 0.0), 1.0
        return -_HIGHEST, _HIGHEST

    def other(self, task: str, name: str) -> float:
        """The highest of a score beside the task's own; -1: there is none of that name."""
        if not self.unit:
            return _HIGHEST
        known = TASKS[task].others if task in TASKS else ()
        return next((other.highest for other in known if other.name == name), -1.0)

    @property
    def loss(self) -> tuple[float, float]:
        """The lowest and the highest."""
        return (0.0, MOST_NATS) if self.unit else (-_HIGHEST, _HIGHEST)


def score_problem(scores: Scores, unit: bool) -> str | None:
    """Why these are no scores; None if they can be."""
    return next(filter(None, (_problem(task, own, Range(unit)) for task, own in scores.items())), None)


def _problem(task: str, own: Evaluation, expected: Range) -> str | None:
    low, high = expected.score(task)
    # NaN fails the comparisons as well.
    if not all(low <= value <= high for value in (own.score, *(score for score, _ in own.parts.values()))):
        return f"its scores are no scores: those of {task} are from {low:g} to {high:g}"
    if own.loss is not None and not expected.loss[0] <= own.loss <= expected.loss[1]:
        return f"its scores are no scores: a loss of {task} is from {expected.loss[0]:g} to {expected.loss[1]:g}"
    if strange := [name for name, value in own.others.items() if not 0 <= value <= expected.other(task, name)]:
        return f"its scores are no scores: {strange[0]} of {task} is none, or out of bounds"
    counts = [count for _, count in own.parts.values()]
    if not 1 <= own.count <= MOST_SAMPLES or min(counts, default=1) < 1 or sum(counts) > own.count:
        return f"its scores are no scores: the parts of {task} have more samples than there are"
    if task == GENEVAL.name:
        return _images_problem(own)
    mean = math.fsum(score * count for score, count in own.parts.values()) / own.count
    if sum(counts) == own.count and not math.isclose(mean, own.score, rel_tol=1e-6, abs_tol=1e-6):
        return f"its scores are no scores: the score of {task} is not the mean of its parts"
    return None


def _images_problem(own: Evaluation) -> str | None:
    """Images are counted by category, each of them once."""
    if not own.parts or own.parts.keys() - set(CATEGORIES):
        return "its scores are no scores: images are not by GenEval's categories"
    if sum(count for _, count in own.parts.values()) != own.count:
        return "its scores are no scores: GenEval's categories do not make up all images"
    return None


def loss_problem(losses: Mapping[str, float], unit: bool) -> str | None:
    """Why training losses, by what they are of, can't be. (NaN is another's business.)"""
    low, high = Range(unit).loss
    strange = [value for value in losses.values() if value < low or value > high]
    return f"its training loss {strange[0]:.3g} is not from {low:g} to {high:g}: lower --lr" if strange else None


def common_test_problem(test: Scores, tasks: Iterable[str], rows: int, images: int, unit: bool) -> str | None:
    """Why a host's scores of its part of the common test set can't be; None if they can, or if there are none.

    Args:
        tasks: of the run.
        rows: as many as the host announced to have.
        images: as many as it was to draw.
    """
    if strange := sorted(test.keys() - {*tasks, GENEVAL.name}):
        return f"it has scores of {strange[0]}, which the run is not about"
    counts = {task: own.count for task, own in test.items()}
    drawn = counts.pop(GENEVAL.name, images)
    if counts and sum(counts.values()) != rows:
        return f"its test scores are of {sum(counts.values())} rows, it announced {rows}"
    if drawn != images:
        return f"it judged {drawn} images, it was to draw {images}"
    return score_problem(test, unit)


def check_test_parts(rows: Mapping[str, int], parts: Mapping[str, Sequence[int]]) -> None:
    """See that the hosts' parts can be of one common test set.

    Args:
        rows: by host that is ready, how many rows its part has.
        parts: by host, ``[i, n]`` for every n-th row from i.

    Raises:
        FedummError: they can't; it names those that differ from most, where there are three or more.
    """
    # With c rows from i on, n apart, a test set has from i + n (c - 1) + 1 to i + n c rows.
    bounds = [
        (first + step * (rows[host] - 1) + 1, first + step * rows[host])
        for host, (first, step) in parts.items()
        if host in rows
    ]
    if max(low for low, _ in bounds) <= min(high for _, high in bounds):
        return
    counts = list(rows.values())
    usual = sorted(counts)[len(counts) // 2]
    odd = [host for host, count in rows.items() if abs(count - usual) > 1]
    whose = ", ".join(odd) if 0 < len(odd) < len(counts) / 2 else "The hosts"
    raise FedummError(
        f"{whose} announced another common test set: {', '.join(f'{h} {n}' for h, n in rows.items())} rows of it. "
        "All hosts must have the same evaluation data."
    )
