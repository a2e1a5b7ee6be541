"""The distinct images of data sets, looked at only as closely as is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from fedumm.backends.protocol import FeatureDataset, Progress
from fedumm.data.image_digests import bad_images, fewest_images, image_digests
from fedumm.data.picture import BadImageError, named

_LISTED = 20


@dataclass(frozen=True)
class Image:
    """An image, and the first row that shows it."""

    key: str
    dataset: FeatureDataset
    row: int


class DistinctImages:
    """Which images there are in ``datasets``, of which one has a row at least.

    Args:
        splits: what each of them is called in messages.
    """

    def __init__(self, datasets: Sequence[FeatureDataset], progress: Progress, splits: Sequence[str] = ()) -> None:
        self.datasets, self.progress = datasets, progress
        self._splits = splits or [""] * len(datasets)

    @cached_property
    def fewest(self) -> int:
        """There are no fewer than these. No image is read for it."""
        return fewest_images([dataset.rows for dataset in self.datasets])

    @cached_property
    def keys(self) -> list[list[str]]:
        """What identifies the image of each row of each data set. All of them are read for it."""
        return [image_digests(dataset.rows, self.progress) for dataset in self.datasets]

    @cached_property
    def all(self) -> list[Image]:
        """Each image, with the first row that shows it."""
        seen: dict[str, Image] = {}
        for dataset, own in zip(self.datasets, self.keys, strict=True):
            for row, key in enumerate(own):
                if key not in seen:
                    seen[key] = Image(key, dataset, row)
        return list(seen.values())

    @property
    def first(self) -> Image:
        """That of the first row."""
        return Image("", next(dataset for dataset in self.datasets if len(dataset.rows)), 0)

    def fault(self, error: BadImageError) -> BadImageError:
        """Instead of ``error`` over one image, one that names all that can't be read."""
        found = [
            f"{split} row {row}{named(dataset.rows, row)}: {reason}".strip()
            for split, dataset in zip(self._splits, self.datasets, strict=True)
            for row, reason in bad_images(dataset.rows, self.progress).items()
        ]
        if not found:
            return error
        more = f"; and {len(found) - _LISTED:,} more" if len(found) > _LISTED else ""
        what = "The image of one row" if len(found) == 1 else f"The images of {len(found):,} rows"
        return BadImageError(
            f"{what} can't be read: repair or remove, or leave out with --skip_bad {len(found)}. "
            f"{'; '.join(found[:_LISTED])}{more}."
        )
