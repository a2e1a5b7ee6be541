"""A data set in a local folder: saved by ``datasets``, or files that ``datasets`` can read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedumm.data.slices import SplitPart
from fedumm.data.source import DataRequest, DataSplits
from fedumm.errors import FedummError

EVAL_SPLITS = ("validation", "val", "test")


def load_folder(path: Path, request: DataRequest) -> DataSplits:
    """Training and evaluation split of the data set in ``path``.

    Raises:
        FedummError: it is no data set, or lacks one of the splits.
    """
    from datasets import DatasetDict, load_dataset, load_from_disk

    saved = any((path / name).exists() for name in ("dataset_dict.json", "dataset_info.json"))
    try:
        found = load_from_disk(str(path)) if saved else load_dataset(str(path), cache_dir=request.cache_dir or None)
    except Exception as error:
        reason = str(error.__cause__ or error).strip().split("\n")[0].rstrip(".")
        raise FedummError(f"--dataset {path} can't be read as a data set: {reason}.") from error
    if not isinstance(found, DatasetDict):
        raise FedummError(f"--dataset {path} has no splits: save a DatasetDict with 'train' and 'validation'.")

    def part(split: str, others: Sequence[str], limit: int) -> Any:
        wanted = SplitPart.parse(split)
        return wanted.of(found[pick_split(list(found), [wanted.name, *others], str(path))], limit)

    return DataSplits(
        part(request.train_split, ["train"], request.max_train_samples),
        part(request.eval_split, EVAL_SPLITS, request.max_eval_samples),
    )


def pick_split(there: Sequence[str], wanted: Sequence[str], name: str) -> str:
    """The first of ``wanted`` that is ``there``.

    Raises:
        FedummError: none is.
    """
    for split in wanted:
        if split in there:
            return split
    options = " or ".join(dict.fromkeys(wanted))
    raise FedummError(f"--dataset {name} has no split {options}. It has: {', '.join(there) or 'none'}.")
