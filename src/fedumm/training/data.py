"""The rows of a run, as its backend and options ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedumm.backends.registry import backend_for
from fedumm.config import FederateConfig, RunConfig
from fedumm.data import DataRequest, DataSplits, load_data
from fedumm.data.partition import Partition, split_rows
from fedumm.errors import FedummError, did_you_mean

ANSWER = "multiple_choice_answer"


def load_splits(config: RunConfig) -> DataSplits:
    """Training and evaluation rows of ``config``'s data set, or of its backend's default one."""
    backend = backend_for(config)
    request = DataRequest(
        cache_dir=config.data_path,
        train_split=backend.hf_train_split(),
        eval_split=backend.hf_eval_split(),
        max_train_samples=config.max_train_samples,
        max_eval_samples=config.max_eval_samples,
        columns=tuple(backend.keep_columns()),
        mix=config.mix,
        image_roots=config.image_roots,
        remote_images=config.allow_remote_images,
    )
    return load_data(config.dataset or backend.hf_dataset_name(), request)


def label_column(rows: Any, by: str, flag: str = "--partition_by") -> str:
    """The column that ``flag`` means; ``answer`` is the most common human answer.

    Raises:
        FedummError: there is no such column.
    """
    # Captions have no answers, but categories.
    name = (ANSWER if ANSWER in rows.column_names else "answer_type") if by == "answer" else by
    if name not in rows.column_names:
        known = [c for c in rows.column_names if c != "image"]
        raise FedummError(f"{flag} {by}: the data have {', '.join(known)}.{did_you_mean(by, known)}")
    return name


def column_labels(rows: Any, column: str) -> list[str]:
    """What each row has in ``column``, or where that is nothing its answer type."""
    values = rows[column][:]
    if None in values and "answer_type" in rows.column_names:
        values = [kind if value is None else value for value, kind in zip(values, rows["answer_type"][:], strict=True)]
    return [str(value) for value in values]


def row_labels(config: FederateConfig, rows: Any) -> list[str]:
    """What the split skews, for each row: of a caption, which has no answer, its category.

    An IID split needs no label, so there a missing answer is none.
    """
    there = {ANSWER, "answer_type"} & set(rows.column_names)
    if config.dirichlet_alpha == 0 and config.partition_by == "answer" and not there:
        return ["all"] * len(rows)
    return column_labels(rows, label_column(rows, config.partition_by))


def partition_for(config: FederateConfig, rows: Any, clients: Sequence[str]) -> tuple[Partition, list[str]]:
    """Each client's share of ``rows`` as ``config`` asks, and the label of each row that it went by."""
    if config.keep_images_whole and "image_id" not in rows.column_names:
        raise FedummError("--keep_images_whole needs a column image_id, which the data do not have.")
    labels = row_labels(config, rows)
    partition = split_rows(
        labels,
        [str(i) for i in rows["image_id"][:]] if "image_id" in rows.column_names else None,
        clients,
        alpha=config.dirichlet_alpha,
        seed=config.seed,
        holdout=config.holdout,
        keep_images_whole=config.keep_images_whole,
        tasks=rows["task"][:] if len(config.tasks) > 1 else None,
        task_share=config.task_share,
    )
    return partition, labels
