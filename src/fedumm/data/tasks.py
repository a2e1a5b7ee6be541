"""Which rows of a data set are for which task, and how many of each a run takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedumm.data.bad_rows import LISTED
from fedumm.data.columns import canonical, canonical_captions
from fedumm.data.pictures import with_pictures, without_media
from fedumm.data.places import Places
from fedumm.errors import FedummError
from fedumm.tasks import T2I, TASKS


def task_rows(
    raw: Any, mix: Mapping[str, int], columns: Sequence[str], limit: int, places: Places, name: str, kind: str
) -> Any:
    """Rows of ``raw`` for the tasks of ``mix``, task after task, with canonical columns and a column ``task``.

    Args:
        mix: parts of each task in a limited number of rows.
        columns: what the backend reads; columns of one task need not be there for another.
        limit: most rows; -1: all.
        places: where the files may lie that a column ``image`` names.
        name, kind: of the data set, for messages.

    Raises:
        FedummError: a column is missing, a task has no row, or a row's image is none that may be read.
    """
    from datasets import concatenate_datasets

    raw, parts = without_media(raw), []
    for task, most in _limits(limit, mix).items():
        foreign = {column for other in TASKS.values() if other.name != task for column in other.columns}
        make, mark = canonical_captions if task == T2I.name else canonical, TASKS[task].column
        chosen = _first(raw, mark, most)
        rows = raw if len(chosen) == len(raw) else raw.select(chosen)
        if "image" in columns:
            rows, bad = with_pictures(rows, places, f"--dataset {name}, {kind} rows")
            _check_none(bad, chosen, f"--dataset {name}, {kind} rows")
        rows = make(rows, [c for c in columns if c not in foreign], name)
        if not len(rows):
            raise FedummError(f"--dataset {name}: there are no {kind} rows with a {mark}.")
        parts.append(rows.add_column("task", [task] * len(rows)))
    return parts[0] if len(parts) == 1 else concatenate_datasets(parts)


def _check_none(bad: Mapping[int, str], numbers: Sequence[int], what: str) -> None:
    """Raise :class:`FedummError` that lists the rows without an image; ``numbers``: what each row is called."""
    if bad:
        listed = [f"the column image of row {numbers[row]} {bad[row]}" for row in list(bad)[:LISTED]]
        more = [f"and {len(bad) - LISTED:,} rows more"] if len(bad) > LISTED else []
        raise FedummError(f"{what}: {'; '.join([*listed, *more])}.")


def _limits(limit: int, mix: Mapping[str, int]) -> dict[str, int]:
    """Most rows of each task: ``limit`` in the proportions of ``mix``, at least one each; -1: all."""
    if limit == -1:
        return dict.fromkeys(mix, -1)
    total, left, limits = sum(mix.values()), limit, {}
    for place, (task, part) in enumerate(mix.items(), start=1):
        limits[task] = left if place == len(mix) else min(max(1, round(limit * part / total)), limit - 1)
        left -= limits[task]
    return limits


def _first(raw: Any, mark: str, most: int) -> Sequence[int]:
    """Numbers of the first ``most`` rows (-1: all); if there is a column ``mark``, of those with something in it."""
    chosen: Sequence[int] = range(len(raw))
    if mark in raw.column_names:
        values = raw[mark][:]
        if any(value is None for value in values):
            chosen = [row for row, value in enumerate(values) if value is not None]
    return chosen[:most] if 0 <= most < len(chosen) else chosen
