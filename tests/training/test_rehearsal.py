"""What is tried before a run is of every task that the run has."""

from __future__ import annotations

from collections import Counter

import pytest
from datasets import Dataset

from fedumm.config import FederateConfig
from fedumm.training.data import load_splits
from fedumm.training.rehearsal import first_rows


def rows(vqa: int, t2i: int) -> Dataset:
    """Task after task, as they are loaded."""
    return Dataset.from_dict({"task": ["vqa"] * vqa + ["t2i"] * t2i, "number": [*range(vqa), *range(t2i)]})


@pytest.mark.parametrize(
    ("there", "most", "taken"),
    [
        ((90, 90), 18, (10, 8)),
        ((3, 90), 18, (3, 8)),
        ((90, 1), 4, (2, 1)),
        ((5, 4), 90, (5, 4)),
        ((90, 0), 18, (18, 0)),
    ],
)
def test_the_first_rows_of_each_task_by_its_part(there: tuple[int, int], most: int, taken: tuple[int, int]) -> None:
    found = first_rows(rows(*there), most, {"vqa": 5, "t2i": 4})
    assert list(zip(found["task"], found["number"], strict=True)) == [
        *(("vqa", n) for n in range(taken[0])),
        *(("t2i", n) for n in range(taken[1])),
    ]


def test_of_real_rows_of_two_tasks() -> None:
    config = FederateConfig(
        model_backend="januspro", model_name_or_path="tiny", dataset="shapes", task="unified", max_train_samples=900,
        max_eval_samples=18,
    )  # fmt: skip
    assert Counter(first_rows(load_splits(config).train, 90, config.mix)["task"]) == {"vqa": 50, "t2i": 40}
