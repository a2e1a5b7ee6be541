"""Predictions as files: JSON lines, Parquet, and the official result format of the VQA challenge.

====================  ==========================================================
``evaluation.json``   scores with intervals, by type, and the table of answers
``predictions.jsonl``  a prediction a line
``predictions.parquet``  the same as a table
``vqa_results.json``  what the VQA challenge's server and tools take
====================  ==========================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fedumm.errors import FedummError
from fedumm.files import replacing, write_atomically
from fedumm.report.evaluation_result import EvaluationResult, prediction_row
from fedumm.report.run_folder import finite
from fedumm.tasks import VQA
from fedumm.texts import one_line
from fedumm.training.predictions import Prediction

EVALUATION, LINES, TABLE, OFFICIAL = (
    "evaluation.json", "predictions.jsonl", "predictions.parquet", "vqa_results.json",
)  # fmt: skip


def save_evaluation(result: EvaluationResult, folder: Path, official: bool = False) -> list[str]:
    """Write the files; each is whole or not there.

    Args:
        official: whether to write :data:`OFFICIAL`, too.

    Returns:
        Their names.

    Raises:
        FedummError: a question has no whole number as its id, which the official format needs.
    """
    results = official_results(result.records) if official else None
    folder.mkdir(parents=True, exist_ok=True)
    rows = [finite(prediction_row(record)) for record in result.records]
    write_atomically(folder / EVALUATION, json.dumps(finite(result.to_mapping()), indent=2, ensure_ascii=False) + "\n")
    write_atomically(folder / LINES, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    _write_table(rows, folder / TABLE)
    if results is None:
        # An earlier model's would lie beside this one's answers.
        (folder / OFFICIAL).unlink(missing_ok=True)
    else:
        write_atomically(folder / OFFICIAL, json.dumps(results) + "\n")
    return [EVALUATION, LINES, TABLE] + ([OFFICIAL] if official else [])


def official_results(records: Iterable[Prediction]) -> list[dict[str, Any]]:
    """The answers to questions as ``[{"question_id": int, "answer": str}]``, as https://visualqa.org/evaluation has it.

    Raises:
        FedummError: an id is no whole number, or comes twice.
    """
    asked = [record for record in records if record.task == VQA.name]
    ids = question_numbers([record.question_id for record in asked])
    return [{"question_id": one, "answer": record.answer or ""} for one, record in zip(ids, asked, strict=True)]


def question_numbers(ids: Sequence[Any]) -> list[int]:
    """``ids`` of questions as whole numbers, which a table of texts writes with digits alone.

    Raises:
        FedummError: one is no whole number, or comes twice.
    """
    numbers = [_number(one) for one in ids]
    if not numbers or None in numbers:
        bad = ids[numbers.index(None)] if numbers else None
        said = "the data have none" if bad is None else f"{one_line(bad, 40)!r} is none"
        raise FedummError(f"--format vqa needs whole numbers in a column question_id, and {said}.")
    if len(set(numbers)) < len(numbers):
        raise FedummError("--format vqa needs ids of questions that are different, and some come twice.")
    return [number for number in numbers if number is not None]


def _number(one: Any) -> int | None:
    if type(one) is int:
        return one
    return int(one) if isinstance(one, str) and one.isascii() and one.isdecimal() and len(one) < 19 else None


def _write_table(rows: Sequence[dict[str, Any]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Of several tasks each has further scores of its own.
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    if any(isinstance(one, str) for one in columns["question_id"]):
        columns["question_id"] = [None if one is None else str(one) for one in columns["question_id"]]
    kinds = {"references": pa.list_(pa.string()), "answer": pa.string(), "reference": pa.string(), "loss": pa.float64()}
    with replacing(path) as draft:
        pq.write_table(pa.table({name: pa.array(own, kinds.get(name)) for name, own in columns.items()}), draft)
