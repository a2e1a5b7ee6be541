"""Rows that were chosen or mixed are known from those that lie as they were written."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import (
    Dataset,
    are_progress_bars_disabled,
    concatenate_datasets,
    disable_progress_bars,
    enable_progress_bars,
    load_from_disk,
)

from fedumm.data import DataRequest, DataSplits, load_data, read_image, register_source
from fedumm.data.row_order import RowPlace, as_it_lies, lies_in_order
from support.pictures import encoded, noise

PICTURES = [noise(seed=seed) for seed in range(6)]
RAW = Dataset.from_dict(
    {
        "image": [encoded(picture) for picture in PICTURES],
        "question": [f"{row}?" for row in range(6)],
        "answer": [str(row) for row in range(6)],
        "nothing": [None] * 6,
    }
)
TWICE = concatenate_datasets([RAW, RAW.remove_columns("answer").add_column("answer", list("abcdef"))])
"""The same images in two tables, with different answers."""

IN_ORDER: list[Callable[[], Any]] = [
    lambda: RAW,
    lambda: RAW.select(range(2, 5)),
    lambda: concatenate_datasets([RAW, RAW]),
    lambda: TWICE,
    lambda: RAW.with_format("numpy"),
    lambda: Dataset(pa.table({"n": pa.chunked_array([[1, 2], [3]])})),
    lambda: Dataset.from_dict({"n": []}),
]
NOT: list[Callable[[], Any]] = [
    lambda: RAW.select([5, 1]),
    lambda: RAW.select([5, 1, 0, 2, 3, 4]),
    lambda: RAW.select([0, 1, 2, 3, 4, 4]),
    lambda: RAW.shuffle(seed=1),
    lambda: RAW.shuffle(seed=1).select(range(4)),
    lambda: TWICE.select([*range(6, 12), *range(6)]),
]


@pytest.mark.parametrize("make", IN_ORDER)
def test_rows_that_lie_in_order(make: Callable[[], Any]) -> None:
    assert lies_in_order(make())


@pytest.mark.parametrize("make", NOT)
def test_rows_that_were_chosen_or_mixed(make: Callable[[], Any]) -> None:
    assert not lies_in_order(make())


def test_mixed_rows_of_a_saved_data_set_are_read_without_a_file_more(tmp_path: Path) -> None:
    order = [5, 1, 0, 2, 3, 4]
    RAW.save_to_disk(tmp_path / "data")
    there = sorted((tmp_path / "data").iterdir())
    rows = load_from_disk(str(tmp_path / "data")).select(order)
    register_source("mixed", lambda _: DataSplits(rows, rows))
    columns = ("image", "question", "multiple_choice_answer", "answers", "answer_type")
    train = load_data("mixed", DataRequest(columns=columns)).train
    assert train["question"][:] == [f"{number}?" for number in order]
    assert [read_image(train, row).tobytes() for row in range(6)] == [PICTURES[n].tobytes() for n in order]
    assert sorted((tmp_path / "data").iterdir()) == there


def test_a_table_in_memory_is_not_read_to_know_its_order() -> None:
    rows = Dataset.from_dict({"image": [bytes(1_000_000)] * 20})
    tracemalloc.start()
    try:
        assert lies_in_order(rows)
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("order", [list(range(6)), [5, 1, 0, 2, 3, 4]])
def test_of_many_columns_one_is_looked_at(monkeypatch: pytest.MonkeyPatch, order: list[int]) -> None:
    looked_at: list[int] = []
    cast = RowPlace.cast_storage

    def counted(self: RowPlace, storage: pa.Array) -> pa.StructArray:
        looked_at.append(len(storage))
        return cast(self, storage)

    monkeypatch.setattr(RowPlace, "cast_storage", counted)
    rows = Dataset.from_dict({"nothing": [None] * 6, **{f"column {n}": list("abcdef") for n in range(50)}})
    assert lies_in_order(rows.select(order)) == (order == sorted(order))
    assert len(looked_at) <= 2


@pytest.mark.parametrize("shown", [True, False])
def test_rows_are_put_in_order_without_a_progress_bar(shown: bool, capfd: pytest.CaptureFixture[str]) -> None:
    before = are_progress_bars_disabled()
    (enable_progress_bars if shown else disable_progress_bars)()
    try:
        assert as_it_lies(RAW.shuffle(seed=1))["question"][:] == RAW.shuffle(seed=1)["question"][:]
        assert are_progress_bars_disabled() != shown
    finally:
        (disable_progress_bars if before else enable_progress_bars)()
    assert capfd.readouterr() == ("", "")
