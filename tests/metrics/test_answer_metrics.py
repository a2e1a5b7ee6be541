"""Scores of an answer by name: which one a run's backend uses, and what a user's own may give."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fedumm.backends import register_backend
from fedumm.backends.blip_vqa import BlipVqaBackend
from fedumm.backends.protocol import REQUIRED_METHODS
from fedumm.backends.registry import backend_for
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.metrics import register_metric, vqa_score
from fedumm.metrics.registry import answer_metric, check_metric_name


def config(metric: str, backend: str = "blip_vqa") -> FederateConfig:
    return FederateConfig(model_backend=backend, answer_metric=metric)


def test_the_official_score_is_the_one_by_default() -> None:
    assert answer_metric("vqa") is vqa_score
    assert FederateConfig(model_backend="blip_vqa").metric == "vqa"
    assert FederateConfig(model_backend="januspro", task="unified").metric == "vqa"
    assert FederateConfig(model_backend="januspro", task="i2t").metric == "rouge_l"


def half(prediction: str, references: Any) -> float:
    return 0.5 if prediction in references else 0.0


@pytest.mark.parametrize("backend", ["blip_vqa", "januspro"])
def test_a_users_own_is_the_backends_score(backend: str) -> None:
    register_metric("half", half)
    score = backend_for(config("half", backend)).metric  # type: ignore[attr-defined]
    assert (score("red", ["red"]), score("blue", ["red"])) == (0.5, 0.0)
    assert backend_for(config("vqa", backend)).metric is vqa_score  # type: ignore[attr-defined]


def test_answers_are_scored_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    register_metric("half", half)
    monkeypatch.setattr(BlipVqaBackend, "_predict", lambda *_: ["red", "blue"])
    batch = {"max_a_len": 3, "references": [["red"], ["red"]], "answer_type": ["color", "color"]}
    for name, scores in (("half", [0.5, 0.0]), ("vqa", [1.0, 0.0])):
        made: Any = backend_for(config(name))
        assert [sample.score for sample in made.score_batch(None, batch, None, None)] == scores


@pytest.mark.parametrize("score", [1.01, -0.1, float("nan"), True, "1", None])
def test_what_is_no_score_is_refused(score: Any) -> None:
    register_metric("odd", lambda prediction, references: score)
    with pytest.raises(FedummError, match=r"The metric 'odd' gave .*, not a score from 0 to 1"):
        answer_metric("odd")("red", ["red"])


def test_a_backend_that_scores_by_itself_leaves_no_choice() -> None:
    register_metric("odd", lambda prediction, references: 1.0)
    register_backend("own", SimpleNamespace(**{m: lambda *_: None for m in REQUIRED_METHODS}))
    with pytest.raises(FedummError, match="--answer_metric odd: the backend 'own' does not support it"):
        backend_for(config("odd", "own"))


def test_an_unknown_name_and_what_is_no_function_are_refused() -> None:
    with pytest.raises(FedummError, match=r"Unknown metric 'vqaa'. Available: .*, vqa. Did you mean 'vqa'"):
        check_metric_name("vqaa")
    with pytest.raises(FedummError, match="'text' is no function"):
        register_metric("text", "x")
