"""Where the pictures of a layout lie: official files give bare names, and leave the folder to whoever unpacked them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedumm.data.layouts.errors import LayoutError
from fedumm.data.places import is_address
from fedumm.data.request import DataRequest
from fedumm.data.splits import split_kind
from fedumm.texts import one_line

if TYPE_CHECKING:
    import pyarrow as pa

_SAMPLE = 24
"""Names of a split that are looked for in each folder."""

_LONGEST = 1024
"""Characters of a name: a picture as base64 is none."""

_MOST_FOLDERS = 500


@dataclass(frozen=True)
class PictureFolders:
    """The data's own folder and those of ``--image_root``: below which of their folders do the pictures of a split lie?

    Only strings are made here: whether each file is there, and may be read, :class:`fedumm.data.places.Places` says.
    """

    base: Path
    roots: tuple[Path, ...] = ()

    @classmethod
    def of(cls, base: Path, request: DataRequest) -> PictureFolders:
        """For the data set in ``base``."""
        return cls(base, request.places().roots)

    def complete(
        self, names: pa.ChunkedArray, first: Sequence[str], split: str, otherwise: str = ""
    ) -> pa.ChunkedArray:
        """``names`` with the folder in front that they lie in, relative to one of the folders; null stays null.

        Absolute names and addresses stay as they are.

        Args:
            first: folders to look in first, in this order; then come those in the data's folder.
            split: what the names are for, to tell folders apart that hold files of equal names.
            otherwise: the folder if no file is found, for the message that then comes.

        Raises:
            LayoutError: several folders hold them.
        """
        import pyarrow.compute as pc

        folder = self._folder(_sample(names), first, split)
        folder = otherwise if folder is None else folder
        if not folder:
            return names
        whole = pc.or_(pc.starts_with(names, "/"), pc.match_substring(names, "::"))
        whole = pc.or_(whole, pc.match_substring(names, "://"))
        return pc.if_else(whole, names, pc.binary_join_element_wise(folder, names, "/"))

    def _folder(self, names: Sequence[str], first: Sequence[str], split: str) -> str | None:
        """The folder that most of ``names`` are in; None if none is in any."""
        found = {folder: self._hits(folder, names) for folder in dict.fromkeys((*first, ""))}
        if best := max(found.values(), default=0):
            return next(folder for folder, hits in found.items() if hits == best)
        found = {folder: hits for folder in self._inside() if (hits := self._hits(folder, names))}
        full = [folder for folder, hits in found.items() if hits == max(found.values())]
        if len(full) > 1:
            # Bare names, such as 0.jpg, in train/ and in test/.
            full = [folder for folder in full if split_kind(folder) == split_kind(split)] or full
        if len(full) > 1:
            raise LayoutError(
                f"the picture '{one_line(names[0], 100)}' is in {' and in '.join(map(one_line, full[:3]))}: name the "
                "folder in the table, or with --image_root DIR"
            )
        return full[0] if full else None

    def _hits(self, folder: str, names: Sequence[str]) -> int:
        return sum(any(os.path.isfile(root / folder / name) for root in (self.base, *self.roots)) for name in names)

    def _inside(self) -> list[str]:
        """Folders in the data's folder, and those in these."""
        found = []
        for depth in ("*/", "*/*/"):
            for folder in self.base.glob(depth):
                name = folder.relative_to(self.base).as_posix()
                if not any(part.startswith(".") for part in folder.relative_to(self.base).parts):
                    found.append(name)
                if len(found) == _MOST_FOLDERS:
                    return sorted(found)
        return sorted(found)


def _sample(names: pa.ChunkedArray) -> list[str]:
    """Some relative names from all over the column."""
    step = max(1, len(names) // _SAMPLE)
    some = {names[row].as_py() for row in range(0, len(names), step)}
    relative = (name for name in some if name and not os.path.isabs(name) and not is_address(name))
    return sorted(name for name in relative if len(name) < _LONGEST and ".." not in name.split("/"))[: 2 * _SAMPLE]
