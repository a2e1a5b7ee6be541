"""How good answers are: the official metrics, computed exactly."""

from fedumm.metrics.registry import AnswerMetric, register_metric
from fedumm.metrics.vqa import (
    VqaResult,
    best_score,
    merge,
    normalises_to_nothing,
    normalize_answer,
    vqa_accuracy,
    vqa_score,
)

__all__ = [
    "AnswerMetric",
    "VqaResult",
    "best_score",
    "merge",
    "normalises_to_nothing",
    "normalize_answer",
    "register_metric",
    "vqa_accuracy",
    "vqa_score",
]
