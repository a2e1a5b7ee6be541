"""What ``--answer_mode rank`` chooses from: a file's answers, or those trained on. Sites' are never collected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedumm.backends.answers import ALL, RANK
from fedumm.config import FederateConfig, RunConfig
from fedumm.data import DataSplits
from fedumm.errors import FedummError
from fedumm.tasks import VQA


def check_candidates(config: RunConfig, splits: DataSplits) -> None:
    """Find out, once the data are there and before any long work, that there is nothing to rank.

    Raises:
        FedummError: one data set is split among clients, no file of answers is named, and a row has no ``choices``.
    """
    if config.answer_mode != RANK or config.answers or _own_answers(config):
        return
    for rows in (splits.train, splits.eval):
        asked = [row for row, name in enumerate(_column(rows, "task")) if name in (None, VQA.name)]
        choices = _column(rows, "choices")
        if not all(choices[row] for row in asked):
            raise FedummError(
                "--answer_mode rank: clients share no answers. Name a file of those to choose from: --answers FILE."
            )


def training_answers(config: RunConfig, rows: Any, chosen: Sequence[int] | None = None) -> tuple[str, ...]:
    """The distinct answers that ``rows`` train on, in their order, where they are what is ranked; else none.

    Args:
        chosen: the rows of ``rows`` that are trained on; None: all.
    """
    if config.answer_mode != RANK or config.answers or not _own_answers(config):
        return ()
    name = "answers" if config.train_answers == ALL else "multiple_choice_answer"
    entries = _column(rows, name)
    texts = [entries[row] for row in (range(len(rows)) if chosen is None else chosen)]
    lists = [entry if isinstance(entry, list) else [entry] for entry in texts if entry is not None]
    return tuple(dict.fromkeys(text for entry in lists for text in entry if text.strip()))


def _own_answers(config: RunConfig) -> bool:
    """Whether whoever scores has training answers of its own: all of them, or those of its own data."""
    return not isinstance(config, FederateConfig) or config.own_data


def _column(rows: Any, name: str) -> list[Any]:
    return list(rows[name][:]) if name in rows.column_names else [None] * len(rows)
