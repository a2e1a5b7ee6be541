"""Splits: by which names they go, and those named with a part, as ``datasets`` writes them (``validation[:50%]``)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fedumm.data.request import DataRequest, DataSplits, RowChoice
from fedumm.errors import FedummError
from fedumm.texts import one_line

TRAIN, VALIDATION, TEST = "train", "validation", "test"
EVAL_SPLITS = (VALIDATION, "val", TEST)

_KINDS = {
    TRAIN: (TRAIN, "training", "trn", "restval", "trainval"),
    VALIDATION: (
        VALIDATION,
        "val",
        "valid",
        "validate",
        "dev",
        "devel",
        "development",
        "eval",
        "evaluation",
        "minival",
    ),
    TEST: (TEST, "tst", "testing", "testdev", "teststd", "testa", "testb", "holdout", "heldout"),
}
_KIND_OF = {word: kind for kind, words in _KINDS.items() for word in words}


def split_kind(name: str) -> str:
    """``train``, ``validation`` or ``test``, of which ``name`` has a word; empty if it has none.

    Example:
        >>> [split_kind(name) for name in ("val2014", "vqa_train", "Testing-0.csv", "data")]
        ['validation', 'train', 'test', '']
    """
    words = re.findall(r"[a-z]+", name.lower())
    return next((_KIND_OF[word] for word in words if word in _KIND_OF), "")


@dataclass(frozen=True)
class SplitPart:
    """A split's name, and which part of it is meant (``spec`` is empty for all of it)."""

    name: str
    spec: str = ""

    @classmethod
    def parse(cls, text: str) -> SplitPart:
        """From ``validation`` or ``validation[:50%]``."""
        name, bracket, _ = text.partition("[")
        return cls(name, text if bracket else "")

    def rows_to_read(self, limit: int) -> int:
        """How many of the split's first rows are needed for ``limit`` rows of the part; -1: all."""
        return limit if not self.spec or self.spec.startswith(f"{self.name}[:") else -1

    def of(self, rows: Any, limit: int) -> Any:
        """The part of ``rows``, which are the whole split, or what :meth:`rows_to_read` said."""
        if not self.spec or self.rows_to_read(limit) != -1:
            return rows
        from datasets import ReadInstruction

        try:
            (found,) = ReadInstruction.from_spec(self.spec).to_absolute({self.name: len(rows)})
        except (ValueError, AssertionError) as error:
            raise FedummError(f"The split {self.spec!r} can't be read: {error}") from error
        return rows.select(range(found.from_, found.to))


def pick_split(there: Sequence[str], wanted: Sequence[str], name: str) -> str:
    """The first of ``wanted`` that is ``there``, or else the first that is called alike.

    Raises:
        FedummError: none is.
    """
    for split in wanted:
        if split in there:
            return split
    kinds = {kind: split for split in reversed(there) if (kind := split_kind(split))}
    for split in wanted:
        if found := kinds.get(split_kind(split)):
            return found
    options = " or ".join(dict.fromkeys(wanted))
    raise FedummError(f"--dataset {name} has no split {options}. It has: {', '.join(there) or 'none'}.")


def pick_both(there: Sequence[str], train: SplitPart, evaluation: SplitPart, name: str) -> tuple[str, str | None]:
    """The split to train on and the one to evaluate on; where there is one split, this one, and None.

    Raises:
        FedummError: there are several, and one of the two is not among them.
    """
    if evaluation.spec and evaluation.name in there:  # two parts of one split
        return pick_split(there, [train.name, TRAIN], name), evaluation.name
    if len(there) == 1:
        return there[0], None
    chosen = pick_split(there, [train.name, TRAIN], name)
    others = [split for split in there if split != chosen]
    return chosen, pick_split(others, [evaluation.name, *EVAL_SPLITS], name)


def chosen(splits: Mapping[str, Callable[[], Any]], request: DataRequest, name: str) -> DataSplits:
    """Rows to train and to evaluate on; of the others of ``splits`` none is read.

    Where there is one split, a column divides it (:func:`divided`); without one there are no rows to evaluate on.

    Args:
        splits: what reads each split.
        name: of the data set, for messages.

    Raises:
        FedummError: there are several splits, and one of the two is not among them, or ``--columns`` names a column
            that says which row is which; or what :func:`divided` raises.
    """
    train, evaluation = SplitPart.parse(request.train_split), SplitPart.parse(request.eval_split)
    first, second = pick_both(list(splits), train, evaluation, name)
    if second is None:
        return one_split(splits[first](), request, name)
    check_no_column(list(splits), request, name)
    return _both(splits, first, second, request)


def _both(splits: Mapping[str, Callable[[], Any]], first: str, second: str, request: DataRequest) -> DataSplits:
    train, evaluation = SplitPart.parse(request.train_split), SplitPart.parse(request.eval_split)
    rows = splits[first]()
    others = rows if second == first else splits[second]()
    return DataSplits(train.of(rows, request.max_train_samples), evaluation.of(others, request.max_eval_samples))


def check_no_column(there: Sequence[str], request: DataRequest, name: str) -> None:
    """Raise :class:`FedummError` if ``--columns`` names a column of splits, where the data have several already."""
    if column := request.column_names.get("split"):
        raise FedummError(
            f"--columns split={one_line(column, 60)}: --dataset {name} has splits already ({', '.join(there)}), and no "
            "column divides them. Leave it out, or give one table as --dataset FILE."
        )


def one_split(rows: Any, request: DataRequest, name: str) -> DataSplits:
    """``rows`` of a data set with one split: divided by a column, or to train on, and None.

    Raises:
        FedummError: see :func:`divided`.
    """
    train = SplitPart.parse(request.train_split)
    return divided(rows, request, name) or DataSplits(train.of(rows, request.max_train_samples), None)


def divided(rows: Any, request: DataRequest, name: str) -> DataSplits | None:
    """``rows`` divided by their column ``split``, or the one that ``--columns`` names; None: there are no two parts.

    Raises:
        FedummError: some values of the column are names of splits, and others are not or are blank; or it names several
            splits, and one of the two that are asked for is not among them.
    """
    parts = by_column(rows, request, name)
    if len(parts) < 2:
        return None
    train, evaluation = SplitPart.parse(request.train_split), SplitPart.parse(request.eval_split)
    first, second = pick_both(list(parts), train, evaluation, name)
    assert second is not None  # there are several
    return _both({kind: partial(parts.get, kind) for kind in parts}, first, second, request)


def by_column(rows: Any, request: DataRequest, name: str) -> dict[str, RowChoice]:
    """``rows`` by what their column of splits says: those of each kind of split, in their order.

    Empty if there is no such column, or if a column that is only called ``split`` holds no name of one.

    Raises:
        FedummError: see :func:`divided`.
    """
    from fedumm.data.columns import as_text

    given = request.column_names.get("split", "")
    column = given or next((c for c in rows.column_names if c.strip().lower() == "split"), "")
    if column not in rows.column_names or not len(rows):
        return {}
    values = as_text(rows, column)
    kinds = {value: split_kind(value or "") for value in dict.fromkeys(values)}
    if not given and not any(kinds.values()):
        return {}
    _check_kinds(values, kinds, f"--dataset {name}: the column '{one_line(column, 60)}'")
    places: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        places.setdefault(kinds[value], []).append(place)
    return {kind: RowChoice(rows, found) for kind, found in places.items()}


def _check_kinds(values: Sequence[str | None], kinds: Mapping[str | None, str], what: str) -> None:
    """Raise :class:`FedummError` unless each of ``values`` is the name of a split."""
    unknown = [one_line(value, 40) for value, kind in kinds.items() if not kind and value and value.strip()]
    if unknown:
        more = f" and {len(unknown) - 10:,} more" if len(unknown) > 10 else ""
        raise FedummError(
            f"{what} says which split a row is in, and names what is none: {', '.join(unknown[:10])}{more}. "
            "Write train, validation or test, or call the column something else."
        )
    if blank := sum(not kinds[value] for value in values):
        raise FedummError(
            f"{what} says which split a row is in, and {blank:,} of {len(values):,} rows have nothing in it. "
            "Write train, validation or test there, or remove these rows."
        )
