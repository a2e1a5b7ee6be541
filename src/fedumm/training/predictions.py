"""What a model said of each row, and how that was scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedumm.backends.protocol import Progress, SampleScore
from fedumm.config import RunConfig
from fedumm.data.answers import most_common
from fedumm.data.column_values import SOURCE_ROW
from fedumm.tasks import I2T, T2I, VQA
from fedumm.training.backbone import Backbone
from fedumm.training.batching import tasks_of
from fedumm.training.evaluation import score_samples
from fedumm.training.feature_cache import cache_features


@dataclass(frozen=True)
class Prediction:
    """One row, what was said of it, and its score.

    Attributes:
        source_row: the number of the row in the data as they were given, from 0.
        task: of the row (:mod:`fedumm.tasks`).
        question: what was asked; of an image to draw its caption, of a text to write nothing.
        references: all human answers, or all texts of the image; of an image to draw none.
        answer: what was said; None where nothing is.
        score: 0..1; of an image to draw the share of the surprise of guessing that is spared, which may be below 0.
        loss: in nats a token, where there is one.
        others: further scores by name.
        image_id: equal for rows that show the same image; empty where images can't be told apart.
        question_id: as the data have it, None where they have none.
        answer_type, question_type: empty where the data have none.
        reference: the most common one of ``references``; None without any.
    """

    source_row: int
    task: str
    question: str
    references: tuple[str, ...]
    answer: str | None
    score: float
    loss: float | None = None
    others: Mapping[str, float] = field(default_factory=dict)
    image_id: str = ""
    question_id: int | str | None = None
    answer_type: str = ""
    question_type: str = ""
    reference: str | None = None


def predict(backbone: Backbone, rows: Any, config: RunConfig, progress: Progress | None = None) -> list[Prediction]:
    """What the backbone says of each row with its present adapter, in the order of ``rows``.

    Frozen features are taken from the cache where the options allow, and put there where that saves time.

    Args:
        rows: of one split of :func:`fedumm.training.data.load_splits`, all or some of them.
        config: the options that they were loaded with.
        progress: told what is done.

    Raises:
        FedummError: the backend scores whole data sets only, or there is no memory for a single sample.
    """
    dataset = backbone.backend.build_dataset(rows, backbone.processor, config.max_q_len, config.max_a_len)
    cache_features(backbone, [dataset], config, progress or _quiet, ("evaluation",), (1,))
    scores = score_samples(backbone, dataset, config, progress)
    return predictions(rows, scores, tasks_of(dataset, config))


def predictions(rows: Any, scores: Sequence[SampleScore], tasks: Sequence[str]) -> list[Prediction]:
    """``scores`` of ``rows``, each beside what its row holds."""
    there = _Columns(rows)
    return [there.prediction(row, score, task) for row, (score, task) in enumerate(zip(scores, tasks, strict=True))]


def _quiet(text: str, done: int, total: int) -> None: ...


class _Columns:
    """The columns of rows that a prediction shows."""

    def __init__(self, rows: Any) -> None:
        self._values = {name: list(rows[name][:]) for name in rows.column_names if name in _SHOWN}

    def prediction(self, row: int, score: SampleScore, task: str) -> Prediction:
        """Of one row."""
        number, asked = self._of(SOURCE_ROW, row), self._of("caption" if task == T2I.name else "question", row)
        references = tuple(map(str, self._references(row, task)))
        named = None if task == T2I.name else self._of("multiple_choice_answer", row)
        return Prediction(
            source_row=row if number is None else int(number),
            task=task,
            question="" if task == I2T.name else str(asked or ""),
            references=references,
            answer=score.said,
            score=float(score.score),
            loss=None if score.loss is None else float(score.loss),
            others={name: float(value) for name, value in score.others.items()},
            image_id=str(self._of("image_id", row) or ""),
            question_id=self._of("question_id", row),
            answer_type=str(self._of("answer_type", row) or score.part or ""),
            question_type="" if task != VQA.name else str(self._of("question_type", row) or ""),
            reference=most_common(references) if named is None else str(named),
        )

    def _of(self, name: str, row: int) -> Any:
        return self._values[name][row] if name in self._values else None

    def _references(self, row: int, task: str) -> Sequence[Any]:
        if task == T2I.name:
            return ()
        if task == I2T.name:
            return self._of("texts", row) or ()
        best = self._of("multiple_choice_answer", row)
        return self._of("answers", row) or (() if best is None else (best,))


_SHOWN = {
    SOURCE_ROW, "image_id", "question_id", "question", "question_type", "answer_type", "answers",
    "multiple_choice_answer", "text", "texts", "caption",
}  # fmt: skip
