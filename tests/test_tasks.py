"""One place says what a task is; scores, records and the screen go by it."""

from __future__ import annotations

import pytest

from fedumm.config import RunConfig
from fedumm.formatting import scores_text
from fedumm.metrics.evaluation import Evaluation, Scores, combine, describe, mean_score, summary
from fedumm.tasks import GENEVAL, T2I, TASK_OPTIONS, TASKS, VQA, in_order, selects


def test_every_option_stands_for_tasks_that_are_trained_on() -> None:
    for option, names in TASK_OPTIONS.items():
        config = RunConfig(model_backend="toy", task=option)
        assert config.tasks == names
        assert list(config.mix) == list(names)
        assert all(selects(name) for name in names)


def test_no_column_belongs_to_two_tasks() -> None:
    """Otherwise the rows of one task would lose a column that belongs to the other."""
    columns = [column for task in TASKS.values() for column in task.columns]
    assert len(columns) == len(set(columns))
    assert all(task.column in task.columns for task in TASKS.values() if task.selects)


def test_the_order_is_that_of_the_screen_and_unknown_tasks_come_last() -> None:
    assert in_order(["zebra", "geneval", "t2i", "ant", "vqa"]) == ["vqa", "t2i", "geneval", "ant", "zebra"]


def test_images_drawn_do_not_select() -> None:
    scores = {
        T2I.name: Evaluation(0.25, 4, {}, loss=3.0), GENEVAL.name: Evaluation(1.0, 4, {}),
        VQA.name: Evaluation(0.75, 4, {}), "of a user's backend": Evaluation(0.5, 4, {}),
    }  # fmt: skip
    assert mean_score(scores) == 0.5
    del scores["of a user's backend"]
    assert describe(scores) == "acc=0.7500  image=3.000 nats  geneval=1.0000"
    record = {"test_tasks": {"geneval": {"score": 1.0}, "t2i": {"score": 0.25, "loss": 3.0}, "vqa": {"score": 0.75}}}
    assert scores_text(record, "test") == "75.00 %  3.000 nats"


def test_scores_of_parts_are_means_over_all_samples_also_of_those_beside() -> None:
    parts: list[Scores] = [
        {"i2t": Evaluation(0.2, 1, {}, None, {"cider": 4.0, "exact": 1.0}), VQA.name: Evaluation(1.0, 5, {})},
        {"i2t": Evaluation(0.6, 3, {}, None, {"cider": 0.0, "exact": 0.0})},
    ]
    whole = combine(parts)
    assert (whole["i2t"].score, whole["i2t"].others) == (pytest.approx(0.5), {"cider": 1.0, "exact": 0.25})
    assert summary("test", whole)["test_tasks"]["i2t"]["others"] == {"cider": 1.0, "exact": 0.25}
    assert summary("test", whole)["test_tasks"]["vqa"].keys() == {"score", "count", "parts"}
    assert mean_score(whole) == pytest.approx(0.75), "what stands beside a score selects nothing"


def test_rows_of_a_task_are_those_with_something_in_its_column() -> None:
    from datasets import Dataset

    from fedumm.data import DataRequest, DataSplits
    from fedumm.data.places import Places
    from fedumm.data.prepare import prepare

    raw = Dataset.from_dict({"question": ["a?", None, "b?"], "answer": ["1", "2", "3"], "caption": [None, "c", "d"]})
    request = DataRequest(columns=(*VQA.columns, *T2I.columns), mix={VQA.name: 1, T2I.name: 1})
    rows = prepare(DataSplits(raw, raw), request, Places(), "set").train
    assert rows["task"][:] == ["vqa", "vqa", "t2i", "t2i"]
    assert rows["question"][:2] == ["a?", "b?"]
    assert rows["caption"][2:] == ["c", "d"]
