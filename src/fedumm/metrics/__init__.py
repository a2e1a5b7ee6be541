"""How good answers are: the official metrics, computed exactly."""

from fedumm.metrics.registry import AnswerMetric, register_metric
from fedumm.metrics.vqa import VqaResult, merge, normalize_answer, vqa_accuracy, vqa_score

__all__ = ["AnswerMetric", "VqaResult", "merge", "normalize_answer", "register_metric", "vqa_accuracy", "vqa_score"]
