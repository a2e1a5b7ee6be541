"""Where the pictures of a layout lie: official files give bare names, and leave the folder to whoever unpacked them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fedumm.data.layouts.errors import LayoutError
from fedumm.data.picture_text import is_encoded
from fedumm.data.places import is_address
from fedumm.data.request import DataRequest
from fedumm.data.splits import split_kind
from fedumm.texts import one_line

if TYPE_CHECKING:
    import pyarrow as pa

_SAMPLE = 48
"""Names of a split that are looked for in each folder, to choose the one to look in first."""

_LONGEST = 1024
"""Characters of a name: a picture as base64 is none."""

_MOST_FOLDERS = 100_000
"""Folders below the data's own that are looked into."""


@dataclass(frozen=True)
class PictureFolders:
    """The data's own folder and those of ``--image_root``: in which of their folders does each picture lie?

    Only strings are made here: whether a file may be read, :class:`fedumm.data.places.Places` says.
    """

    base: Path
    roots: tuple[Path, ...] = ()
    _files: dict[str, Collection[str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, base: Path, request: DataRequest) -> PictureFolders:
        """For the data set in ``base``."""
        return cls(base, request.places().roots)

    def complete(
        self, names: pa.ChunkedArray, first: Sequence[str], split: str, otherwise: str = ""
    ) -> pa.ChunkedArray:
        """``names`` with the folder in front that each lies in, relative to one of the folders; null stays null.

        Absolute names, addresses and texts that are pictures themselves stay as they are.

        Args:
            first: folders to look in first; of these that one before others that most names are in. Then come all in
                the data's folder.
            split: what the names are for, to tell folders apart that hold files of equal names; may be empty.
            otherwise: the folder if no file is found, for the message that then comes.

        Raises:
            LayoutError: several folders hold a file that is in none of ``first``.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        distinct = _relative(names)
        folders = self._by_hits(distinct, first)
        found = self._found(distinct, folders, split)
        rest = folders[0] if found else otherwise
        whole = [os.path.join(found.get(name, rest), name) for name in distinct]
        places = pc.index_in(names, pa.array(distinct, names.type))
        return pc.coalesce(pc.take(pa.array(whole, names.type), places), names)

    def _by_hits(self, names: Sequence[str], first: Sequence[str]) -> list[str]:
        """``first``, and the data's folder itself: those with most of ``names`` first."""
        some = names[:: max(1, len(names) // _SAMPLE)]
        hits = {folder: sum(self._holds(folder, name) for name in some) for folder in dict.fromkeys((*first, ""))}
        return sorted(hits, key=lambda folder: -hits[folder])

    def _found(self, names: Sequence[str], first: Sequence[str], split: str) -> dict[str, str]:
        """The folder of each of ``names`` that is there."""
        places = {name: next((folder for folder in first if self._holds(folder, name)), None) for name in names}
        found = {name: folder for name, folder in places.items() if folder is not None}
        if len(found) < len(names):
            missing = self._below([name for name in names if name not in found])
            found |= {name: self._the_one(name, folders, split) for name, folders in missing.items()}
        return found

    def _holds(self, folder: str, name: str) -> bool:
        if "/" in name:
            return any(os.path.isfile(root / folder / name) for root in (self.base, *self.roots))
        return any(name in self._names_in(os.path.join(root, folder)) for root in (self.base, *self.roots))

    def _names_in(self, folder: str) -> Collection[str]:
        if folder not in self._files:
            try:
                self._files[folder] = set(os.listdir(folder))
            except OSError:
                self._files[folder] = ()
        return self._files[folder]

    def _below(self, names: Sequence[str]) -> dict[str, list[str]]:
        """All folders below the data's own that hold one of ``names``."""
        wanted: dict[str, list[str]] = {}
        for name in names:
            wanted.setdefault(os.path.basename(name), []).append(name)
        found: dict[str, list[str]] = {}
        for folder, files in self._folders():
            for file in wanted.keys() & files:
                path = f"/{folder}/{file}"
                for name in wanted[file]:
                    if path.endswith(f"/{name}"):
                        found.setdefault(name, []).append(path[1 : -len(name) - 1])
        return found

    def _folders(self) -> Iterator[tuple[str, set[str]]]:
        """Folders below the data's own, with their files, each once. Hidden ones and links out are not looked into."""
        inside = tuple(os.path.join(os.path.realpath(root), "") for root in (self.base, *self.roots))
        open_, seen = [""], set[str]()
        while open_ and len(seen) < _MOST_FOLDERS:
            folder = open_.pop()
            real = os.path.join(os.path.realpath(self.base / folder), "")
            if real in seen or not real.startswith(inside):
                continue
            seen.add(real)
            below, files = _content(real)
            open_ += [os.path.join(folder, name) for name in sorted(below, reverse=True)]
            yield folder, files

    def _the_one(self, name: str, folders: Sequence[str], split: str) -> str:
        files = {os.path.realpath(self.base / folder / name): folder for folder in reversed(folders)}
        some = list(reversed(files.values()))
        if len(some) > 1 and (kind := split_kind(split)):
            # Bare names, such as 0.jpg, in train/ and in test/.
            some = [folder for folder in some if split_kind(folder) == kind] or some
        if len(some) > 1:
            raise LayoutError(
                f"the picture '{one_line(name, 100)}' is in {' and in '.join(map(one_line, some[:3]))}: name the "
                "folder in the table, or with --image_root DIR"
            )
        return some[0]


def _content(folder: str) -> tuple[list[str], set[str]]:
    """Names of folders and of files in ``folder`` that are not hidden; none if it can't be read."""
    try:
        with os.scandir(folder) as found:
            entries = [(entry.name, entry.is_dir()) for entry in found if not entry.name.startswith(".")]
    except OSError:
        return [], set()
    return [name for name, is_folder in entries if is_folder], {n for n, is_folder in entries if not is_folder}


def _relative(names: pa.ChunkedArray) -> list[str]:
    """The distinct relative names, in the order of their first rows."""
    import pyarrow.compute as pc

    short = names.filter(pc.less(pc.binary_length(names), _LONGEST))
    return [name for name in pc.unique(short).to_pylist() if _is_relative(name)]


def _is_relative(name: str) -> bool:
    whole = not name or os.path.isabs(name) or is_address(name) or is_encoded(name)
    return not whole and ".." not in name.split("/")
