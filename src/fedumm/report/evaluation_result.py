"""How a model fared on a data set: scores with intervals, by type of answer and of question, and every prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fedumm.metrics.bootstrap import LEVEL, RESAMPLES, Estimate, estimate
from fedumm.metrics.confusion import Confusion, confusion
from fedumm.metrics.evaluation import Evaluation
from fedumm.seeds import derive
from fedumm.tasks import I2T, TASKS, in_order
from fedumm.training.predictions import Prediction

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Measure:
    """Mean score of some samples of one task and, where there is one, their mean loss in nats."""

    score: Estimate
    loss: Estimate | None = None

    @property
    def shown(self) -> Estimate:
        """The number that people are shown: the loss where there is one, else the score."""
        return self.loss or self.score

    def to_mapping(self) -> dict[str, Any]:
        """For JSON."""
        plain = {"score": self.score.mean, "interval": self.score.interval, "count": self.score.count}
        loss = {"loss": self.loss.mean, "loss_interval": self.loss.interval} if self.loss else {}
        return plain | {"images": self.score.groups} | loss


@dataclass(frozen=True)
class TaskResult:
    """How samples of one task fared.

    Attributes:
        whole: all of them.
        answer_types, question_types: by type, the most frequent first; empty where the data have none.
        others: means of further scores by name.
        confusion: of answers to questions.
    """

    whole: Measure
    answer_types: Mapping[str, Measure]
    question_types: Mapping[str, Measure]
    others: Mapping[str, float] = field(default_factory=dict)
    confusion: Confusion | None = None

    def to_mapping(self) -> dict[str, Any]:
        """For JSON."""
        types = {
            name: {label: own.to_mapping() for label, own in group.items()}
            for name, group in (("answer_types", self.answer_types), ("question_types", self.question_types))
        }
        table = {"confusion": asdict(self.confusion)} if self.confusion else {}
        return {**self.whole.to_mapping(), "others": dict(self.others), **types, **table}


@dataclass(frozen=True)
class EvaluationResult:
    """How a model fared.

    Attributes:
        about: what was scored: model, adapter, data, options, as JSON values.
        tasks: by the task's name, in the order in which they are shown.
        records: every prediction, in the data's order.
        estimate: the mean score over tasks, by which runs choose their best adapter, with its interval.
        geneval: share of drawn images that show what their captions say; None where nothing was drawn.
        by_image: whether intervals are over images; else, where these can't be told apart, over samples.
    """

    about: Mapping[str, Any] = field(repr=False)
    tasks: Mapping[str, TaskResult] = field(repr=False)
    records: tuple[Prediction, ...] = field(repr=False)
    estimate: Estimate
    geneval: Evaluation | None = None
    by_image: bool = True

    @property
    def score(self) -> float:
        """The mean score, 0..1; of several tasks the mean of theirs."""
        return self.estimate.mean

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % bootstrap interval of :attr:`score`; None with a single image."""
        return self.estimate.interval

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """A row for each sample, in the data's order, with the columns of ``predictions.jsonl``."""
        import pandas as pd

        return pd.DataFrame(list(map(prediction_row, self.records)))

    @property
    def by_answer_type(self) -> pd.DataFrame:
        """A row for each task and type of answer: ``score``, ``low``, ``high``, ``count``, ``images``, ``loss``."""
        return self._frame(lambda task: task.answer_types, "answer_type")

    @property
    def by_question_type(self) -> pd.DataFrame:
        """The same by type of question."""
        return self._frame(lambda task: task.question_types, "question_type")

    def _frame(self, of: Callable[[TaskResult], Mapping[str, Measure]], name: str) -> pd.DataFrame:
        import pandas as pd

        rows = [
            {
                "task": task, name: label, "score": own.score.mean, "low": own.score.low, "high": own.score.high,
                "count": own.score.count, "images": own.score.groups, "loss": own.loss.mean if own.loss else None,
            }
            for task, result in self.tasks.items()
            for label, own in of(result).items()
        ]  # fmt: skip
        columns = ["task", name, "score", "low", "high", "count", "images", "loss"]
        return pd.DataFrame(rows, columns=columns).set_index(["task", name])

    def to_mapping(self) -> dict[str, Any]:
        """All but the predictions, for a JSON file."""
        drawn = {"geneval": asdict(self.geneval)} if self.geneval else {}
        return {
            **self.about,
            "score": self.score,
            "interval": self.interval,
            "level": LEVEL,
            "resamples": RESAMPLES,
            "resampled": "images" if self.by_image else "samples",
            "tasks": {name: result.to_mapping() for name, result in self.tasks.items()},
            **drawn,
        }


def result_of(
    records: Sequence[Prediction], about: Mapping[str, Any], seed: int, geneval: Evaluation | None = None
) -> EvaluationResult:
    """Scores and intervals of predictions, of which there is one at least.

    Args:
        seed: of the run; the draws of the intervals follow from it.
    """
    by_image = all(record.image_id for record in records)
    groups = [record.image_id if by_image else str(place) for place, record in enumerate(records)]
    draws = derive(seed, "bootstrap")
    tasks = {}
    for name in in_order(record.task for record in records):
        own = [(record, group) for record, group in zip(records, groups, strict=True) if record.task == name]
        tasks[name] = _task_result(name, [record for record, _ in own], [group for _, group in own], draws)
    whole = estimate(
        [record.score for record in records], groups, strata=[record.task for record in records], seed=draws
    )
    return EvaluationResult(dict(about), tasks, tuple(records), whole, geneval, by_image)


def _task_result(name: str, records: Sequence[Prediction], groups: Sequence[str], seed: int) -> TaskResult:
    def by(kinds: Sequence[str]) -> dict[str, Measure]:
        places: dict[str, list[int]] = {}
        for place, kind in enumerate(kinds):
            if kind:
                places.setdefault(kind, []).append(place)
        order = sorted(places, key=lambda kind: (-len(places[kind]), kind))
        return {k: _measure([records[p] for p in places[k]], [groups[p] for p in places[k]], seed) for k in order}

    pairs = [(one.reference, one.answer) for one in records if one.reference is not None and one.answer is not None]
    others = {key: sum(one.others[key] for one in records) / len(records) for key in sorted(records[0].others)}
    return TaskResult(
        _measure(records, groups, seed),
        by([one.answer_type for one in records]),
        by([one.question_type for one in records]),
        others,
        confusion(pairs) if pairs and name != I2T.name and name in TASKS else None,
    )


def _measure(records: Sequence[Prediction], groups: Sequence[str], seed: int) -> Measure:
    losses = [one.loss for one in records if one.loss is not None]
    loss = estimate(losses, groups, seed=seed) if len(losses) == len(records) else None
    return Measure(estimate([one.score for one in records], groups, seed=seed), loss)


def prediction_row(record: Prediction) -> dict[str, Any]:
    """One prediction as plain values; further scores beside its own."""
    row = asdict(record)
    others = row.pop("others")
    return {**row, "references": list(record.references), **others}
