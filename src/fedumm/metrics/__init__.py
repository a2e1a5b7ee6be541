"""How good answers are: the official metrics, computed exactly."""

from fedumm.metrics.vqa import VqaResult, merge, normalize_answer, vqa_accuracy, vqa_score

__all__ = ["VqaResult", "merge", "normalize_answer", "vqa_accuracy", "vqa_score"]
