"""What a run wants of a data source, and what a source gives."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedumm.data.places import Places
from fedumm.errors import FedummError
from fedumm.tasks import VQA


@dataclass(frozen=True, kw_only=True)
class DataRequest:
    """What a run wants of a source.

    Attributes:
        cache_dir: Hugging Face cache directory; empty: the libraries' default.
        train_split, eval_split: splits to use where a data set leaves a choice.
        max_train_samples, max_eval_samples: keep the first so many rows; -1: all.
        columns: columns the backend reads; :mod:`fedumm.data.columns` derives some of them.
        column_names: what the data set calls a column, by our name for it.
        mix: the tasks, each with its part of a limited number of rows.
        image_roots: folders that files of the data may lie in, besides the data's own.
        remote_images: whether files of the data may be fetched from the network.
        eval_fraction: share of the images to evaluate on, of data with one split.
        language: keep only rows in it; empty: all.
        drop_overlap: leave out training rows whose image is among those to evaluate on.
        skip_bad: go on without so many bad rows.
        several_images: whether the backend reads all images of a row; otherwise rows with more than one are bad.
        open_images: open so many images of each split to see whether they can be read; -1: all.
    """

    cache_dir: str = ""
    train_split: str = "train"
    eval_split: str = "validation"
    max_train_samples: int = -1
    max_eval_samples: int = -1
    columns: tuple[str, ...] = ()
    column_names: Mapping[str, str] = field(default_factory=dict)
    mix: Mapping[str, int] = field(default_factory=lambda: {VQA.name: 1})
    image_roots: tuple[str, ...] = ()
    remote_images: bool = False
    eval_fraction: float = 0.1
    language: str = ""
    drop_overlap: bool = False
    skip_bad: int = 0
    open_images: int = 0
    several_images: bool = False

    def images_to_open(self, count: int) -> int:
        """How many of ``count`` images are opened: all, where the bad ones are to be skipped."""
        return count if self.skip_bad or self.open_images == -1 else min(count, self.open_images)

    def places(self, base: Path | None = None, caches: tuple[Path, ...] = (), own: tuple[str, ...] = ()) -> Places:
        """Where files of the data may lie, given the data set's own folder, caches and addresses.

        Raises:
            FedummError: a folder of ``image_roots`` is not there.
        """
        roots = tuple(Path(os.path.expanduser(root)) for root in self.image_roots)
        for root in roots:
            if not root.is_dir():
                raise FedummError(f"--image_root {root}: no such folder.")
        return Places(base, roots, caches, own, self.remote_images)


@dataclass(frozen=True)
class SplitReport:
    """What became of the rows of one split.

    Attributes:
        kind: ``training`` or ``evaluation``.
        given: rows that the data have, or that were read of them.
        samples: rows to learn from or to be scored on.
        left_out: how many rows were left out, by the reason.
        bad: why a row of the data can't be used, by its number.
        origins: where in which file the first of these are, where that is known.
        identity: how images are told apart, in words; empty without images.
        notes: what was read as something else, in words.
    """

    kind: str
    given: int
    samples: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    bad: Mapping[int, str] = field(default_factory=dict)
    identity: str = ""
    notes: tuple[str, ...] = ()
    origins: Mapping[int, str] = field(default_factory=dict)

    def named(self, row: int) -> str:
        """``training row 5 (data.csv, line 7)``."""
        origin = self.origins.get(row, "")
        return f"{self.kind} row {row}" + (f" ({origin})" if origin else "")


@dataclass(frozen=True)
class RowChoice:
    """Some rows of a table, by their numbers: where a source chooses them so, no image is copied."""

    table: Any
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, column: str) -> list[Any]:
        values = self.table[column][:]
        return [values[number] for number in self.numbers]

    def select(self, places: Sequence[int]) -> RowChoice:
        """Some of them."""
        return RowChoice(self.table, [self.numbers[place] for place in places])


@dataclass(frozen=True)
class DataSplits:
    """Rows to train on and rows to evaluate on, as ``datasets.Dataset``; no row is in both.

    Attributes:
        train: of a source's raw rows also a :class:`RowChoice`.
        eval: the same, or of raw rows None, if there is one split only.
        columns: what a column is called in the data, by what it is called here, where a source has renamed it.
        reports: of raw rows none yet.
    """

    train: Any
    eval: Any
    columns: Mapping[str, str] = field(default_factory=dict)
    reports: tuple[SplitReport, ...] = ()


Origins = Callable[[str, Sequence[int]], Mapping[int, str]]
"""Where in which file rows of the split of that kind are, by their numbers, as far as that is known."""

Progress = Callable[[str, int, int], object]
"""Told what is being done, how much of it is done, and how much there is."""

Source = Callable[[DataRequest], DataSplits]
"""Loads a data set's raw rows; :func:`fedumm.data.prepare.prepare` brings them into shape."""
