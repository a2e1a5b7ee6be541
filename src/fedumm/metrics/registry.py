"""Scores of an answer by name, for ``--answer_metric``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fedumm import tasks
from fedumm.errors import FedummError
from fedumm.registry import Registry

AnswerMetric = Callable[[str, Sequence[str]], float]
"""The score, from 0 to 1, of an answer against the human answers to its question."""

VQA = tasks.VQA.metric
SHIPPED = {
    VQA: "fedumm.metrics.vqa",
    "token_f1": "fedumm.metrics.text",
    "rouge_l": "fedumm.metrics.text",
    "exact": "fedumm.metrics.text",
}
_FUNCTIONS = {VQA: "vqa_score"}
"""By name, where the function is called otherwise."""

_HINT = " One of your own is loaded with --plugin FILE."


def _checked(name: str, item: Any) -> AnswerMetric:
    if not callable(item):
        raise FedummError(f"Metric {name!r} is no function of an answer and the human answers.")
    return item  # type: ignore[no-any-return]


METRICS: Registry[AnswerMetric] = Registry(
    "metric", "fedumm.metrics", SHIPPED, lambda module, name: getattr(module, _FUNCTIONS.get(name, name)), _checked
)

register_metric = METRICS.register
"""``@register_metric(name)`` above an :data:`AnswerMetric`, or ``register_metric(name, metric)``."""


def check_metric_name(name: str) -> None:
    """Raise :class:`FedummError` for an unknown name, without importing any metric."""
    METRICS.check(name, _HINT)


def answer_metric(name: str) -> AnswerMetric:
    """The metric called ``name``; one that is not shipped is held to its bounds.

    Raises:
        FedummError: there is none, or (when it is asked for a score) it gives none from 0 to 1.
    """
    metric = METRICS.get(name, _HINT)
    if METRICS.is_shipped(name):
        return metric

    def bounded(prediction: str, references: Sequence[str]) -> float:
        score = metric(prediction, references)
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise FedummError(f"The metric {name!r} gave {score!r}, not a score from 0 to 1.")
        return float(score)

    return bounded
