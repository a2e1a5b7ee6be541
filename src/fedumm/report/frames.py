"""Records of a run as tables of pandas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_BY_TASK, _LOSSES = "_tasks", "train_losses"


def rounds_frame(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """A row for each round, by its number: numbers and texts of its record, and scores by task.

    The score ``test`` of the task ``vqa`` is in the column ``test_vqa``, a loss in ``test_t2i_loss``, and the training
    loss of one task in ``train_loss_vqa``. Lists and mappings are in the records only.
    """
    return _frame(records, ["round"])


def epochs_frame(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The same for each epoch of a central run; epoch 0 is the untrained adapter."""
    return _frame(records, ["epoch"])


def clients_frame(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """As :func:`rounds_frame`, for each client in each round, by round and client."""
    return _frame(records, ["round", "client"])


def _frame(records: Iterable[Mapping[str, Any]], index: list[str]) -> pd.DataFrame:
    import pandas as pd

    rows = [_row(record) for record in records]
    columns = list(dict.fromkeys([*index, *(name for row in rows for name in row)]))
    return pd.DataFrame(rows, columns=columns).set_index(index)


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in record.items():
        if name.endswith(_BY_TASK) and isinstance(value, Mapping):
            for task, own in value.items():
                what = f"{name.removesuffix(_BY_TASK)}_{task}"
                row[what] = own.get("score")
                if own.get("loss") is not None:
                    row[f"{what}_loss"] = own["loss"]
        elif name == _LOSSES and isinstance(value, Mapping):
            row |= {f"train_loss_{task}": loss for task, loss in value.items()}
        elif name != "event" and not isinstance(value, Mapping | list | tuple):
            row[name] = value
    return row
