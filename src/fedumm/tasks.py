"""What a task is: the columns it needs, what its score is called, and whether that score selects the best round."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class OtherScore:
    """A score that is shown beside a task's own, and selects nothing.

    Attributes:
        name: in records.
        label: for people.
        highest: the lowest is 0.
    """

    name: str
    label: str
    highest: float = 1.0


@dataclass(frozen=True)
class Task:
    """One thing that a model can do and is scored on.

    Attributes:
        name: in options, in records, and in the column ``task`` of the data.
        column: rows for this task have something in it.
        columns: those that only rows for this task have.
        score: what its score is called.
        short: the same in one word.
        unit: of the number that is shown: a share in percent, or a mean loss in nats.
        label: of an axis.
        activity: what the machine does while it scores.
        selects: whether the score takes part in selecting the best round. What does not is not trained on either.
        lowest: score of a shipped backend; the highest is 1.
        example: a command that does it with an adapter, without ``fedumm`` and ``--adapter``; empty if there is none.
        invitation: what introduces that command.
        others: further scores, by any of which a reader may want to compare.
        metric: what ``--answer_metric`` is where it is not given; empty: the task has no texts to score.
    """

    name: str
    column: str
    columns: tuple[str, ...]
    score: str
    short: str
    unit: Literal["%", "nats"]
    label: str
    activity: str
    selects: bool = True
    lowest: float = 0.0
    example: str = ""
    invitation: str = ""
    others: tuple[OtherScore, ...] = ()
    metric: str = ""


VQA = Task(
    name="vqa",
    column="question",
    columns=("question", "multiple_choice_answer", "answers"),
    score="accuracy",
    short="acc",
    unit="%",
    label="accuracy (%)",
    activity="answering questions",
    example='ask IMAGE "what color is the shape?"',
    invitation="Ask it:",
    metric="vqa",
)

T2I = Task(
    name="t2i",
    column="caption",
    columns=("caption",),
    score="image tokens",
    short="image",
    unit="nats",
    label="cross-entropy of image tokens (nats)",
    activity="scoring image tokens",
    # The share of surprise spared is below 0 where a model is worse than a uniform guess; -1 is twice its surprise.
    lowest=-1.0,
    example='draw "a red circle"',
    invitation="Let it draw:",
)

I2T = Task(
    name="i2t",
    column="text",
    columns=("text", "texts"),
    score="text score",
    short="text",
    unit="%",
    label="text score (%)",
    activity="writing texts",
    example="ask IMAGE",
    invitation="Ask it:",
    others=(
        OtherScore("rouge_l", "ROUGE-L"),
        OtherScore("token_f1", "token F1"),
        OtherScore("exact", "exact match"),
        OtherScore("cider", "CIDEr", 10.0),
    ),
    metric="rouge_l",
)
"""Captions, findings, reports. What the text score is, ``--answer_metric`` says."""

GENEVAL = Task(
    name="geneval",
    column="geneval",
    columns=(),
    score="GenEval",
    short="geneval",
    unit="%",
    label="GenEval (%)",
    activity="drawing images",
    selects=False,
)
"""Images drawn, and judged by GenEval's rule."""

TASKS = {task.name: task for task in (VQA, I2T, T2I, GENEVAL)}
"""By name, in the order in which they are shown."""

TASK_OPTIONS = {
    VQA.name: (VQA.name,),
    I2T.name: (I2T.name,),
    T2I.name: (T2I.name,),
    "unified": (VQA.name, T2I.name),
}
"""What ``--task`` can be, and the names of the tasks that it stands for."""


def in_order(names: Iterable[str]) -> list[str]:
    """``names`` of tasks in the order in which they are shown; unknown ones come last, by name."""
    order = list(TASKS)
    return sorted(set(names), key=lambda name: (order.index(name) if name in TASKS else len(order), name))


def selects(name: str) -> bool:
    """Whether the score of this task takes part in selecting the best round."""
    return name not in TASKS or TASKS[name].selects
