"""The distinct images of data sets, looked at only as closely as is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from fedumm.backends.protocol import FeatureDataset, Progress
from fedumm.data.bad_rows import describe
from fedumm.data.image_digests import bad_images, fewest_images, image_digests
from fedumm.data.picture import BadImageError
from fedumm.features.known_files import KnownFiles


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
        known: files that were read before; None: all are read.
    """

    def __init__(
        self,
        datasets: Sequence[FeatureDataset],
        progress: Progress,
        splits: Sequence[str] = (),
        known: KnownFiles | None = None,
    ) -> None:
        self.datasets, self.progress, self._files = datasets, progress, known
        self._splits = splits or [f"data set {number}" for number in range(1, len(datasets) + 1)]

    @cached_property
    def fewest(self) -> int:
        """There are no fewer than these. No image is read for it."""
        return fewest_images([dataset.rows for dataset in self.datasets])

    @cached_property
    def keys(self) -> list[list[str]]:
        """What identifies the image of each row of each data set. They are read for it, if they are not known."""
        return [image_digests(dataset.rows, self.progress, known=self._files) for dataset in self.datasets]

    @cached_property
    def all(self) -> list[Image]:
        """Each image, with the first row that shows it."""
        seen: dict[str, Image] = {}
        for dataset, own in zip(self.datasets, self.keys, strict=True):
            for row, key in enumerate(own):
                if key not in seen:
                    seen[key] = Image(key, dataset, row)
        return list(seen.values())

    def first_few(self, count: int) -> list[Image]:
        """Those of the first rows, at most ``count``; the same image may be among them twice."""
        rows = ((dataset, row) for dataset in self.datasets for row in range(len(dataset.rows)))
        return [Image("", dataset, row) for dataset, row in islice(rows, count)]

    def fault(self, error: BadImageError) -> BadImageError:
        """Instead of ``error`` over one image, one that names all that can't be read."""
        bad = {
            split: (dataset.rows, bad_images(dataset.rows, self.progress))
            for split, dataset in zip(self._splits, self.datasets, strict=True)
        }
        count = sum(len(reasons) for _, reasons in bad.values())
        if not count:
            return error
        what = "The image of one row" if count == 1 else f"The images of {count:,} rows"
        return BadImageError(
            f"{what} can't be read: repair or remove, or leave out with --skip_bad {count}. {describe(bad)}."
        )
