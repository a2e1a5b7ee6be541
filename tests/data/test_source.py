"""What a source of a user's own may give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from fedumm.data import DataRequest, DataSplits, load_data, register_source
from fedumm.errors import FedummError

TEXTS = ("question", "multiple_choice_answer", "answers")
ROWS = Dataset.from_dict({"question": ["a?", "b?", "c?"], "answer": ["yes", "no", "yes"], "number": [1, 2, 3]})


def load(given: Any) -> DataSplits:
    register_source("theirs", lambda _: given)
    return load_data("theirs", DataRequest(columns=TEXTS))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (ROWS, "its source returned a value of type Dataset in place of a fedumm.data.DataSplits"),
        (DatasetDict({"train": ROWS}), "returned a value of type DatasetDict"),
        ({"train": ROWS, "test": ROWS}, "returned a value of type dict"),
        (None, "returned a value of type NoneType"),
        (DataSplits(None, ROWS), "the training rows are a value of type NoneType"),
        (DataSplits(ROWS, {"question": ["a?"]}), "the evaluation rows are a value of type dict in place of a"),
        (DataSplits(ROWS, ROWS.to_iterable_dataset()), "the evaluation rows are a value of type IterableDataset"),
        (DataSplits(ROWS.with_transform(dict), ROWS), "the training rows have a transform"),
    ],
)
def test_what_is_no_data_set_is_one_clear_error(given: Any, message: str) -> None:
    with pytest.raises(FedummError, match=f"^--dataset theirs: .*{message}"):
        load(given)


@pytest.mark.parametrize("format_", ["numpy", "arrow", "pandas"])
@pytest.mark.parametrize("columns", [None, ["number"]])
def test_rows_in_a_format_are_read_as_they_are(format_: str, columns: list[str] | None) -> None:
    rows = ROWS.with_format(format_, columns=columns)
    splits = load(DataSplits(rows, rows))
    assert splits.train["question"][:] == ["a?", "b?", "c?"]
    assert splits.eval["multiple_choice_answer"][:] == ["yes", "no", "yes"]
    assert not isinstance(splits.eval["answers"][0], np.ndarray)
