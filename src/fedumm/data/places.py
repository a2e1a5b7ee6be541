"""Where the files of a data set may lie: below its own folder, below folders that the user names, or in its repository.

A table of file names is somebody else's text. Read as it stands, it makes this machine open any file that its user
may read, and fetch any address that it can reach: those of a hospital's inside network, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from fedumm.errors import FedummError
from fedumm.texts import one_line

_NETWORK = ("http", "https", "s3", "gs", "hf")
"""What ``--allow_remote_images`` allows. ``file:`` is not among them: a path is given as a path."""


@dataclass(frozen=True)
class Places:
    """Where files may be read from.

    Attributes:
        base: the data's own folder, which relative names begin at; None if it has none.
        roots: further folders, as ``--image_root`` names them; relative names may begin there, too.
        caches: folders that absolute names may lead to as well: where a library keeps what it fetched.
        own: beginnings of addresses that belong to the data set itself.
        remote: whether files may be fetched from the network.
    """

    base: Path | None = None
    roots: tuple[Path, ...] = ()
    caches: tuple[Path, ...] = ()
    own: tuple[str, ...] = ()
    remote: bool = False
    _real: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        everywhere = (*self._begin, *self.caches)
        object.__setattr__(self, "_real", tuple(os.path.join(os.path.realpath(p), "") for p in everywhere))

    def as_json(self) -> str:
        """All of it as text, for what is sent to other processes; :meth:`from_json` reads it."""
        facts = {
            "base": str(self.base) if self.base else None, "roots": list(map(str, self.roots)),
            "caches": list(map(str, self.caches)), "own": list(self.own), "remote": self.remote,
        }  # fmt: skip
        return json.dumps(facts, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Places:
        """The places that :meth:`as_json` wrote."""
        facts = json.loads(text)
        roots, caches = (tuple(map(Path, facts[name])) for name in ("roots", "caches"))
        return cls(Path(facts["base"]) if facts["base"] else None, roots, caches, tuple(facts["own"]), facts["remote"])

    @property
    def _begin(self) -> tuple[Path, ...]:
        return (self.base, *self.roots) if self.base else self.roots

    def find(self, name: str) -> str:
        """The full path of the file ``name``, or its address, if it may be read.

        Raises:
            FedummError: it may not, or is not there; a half sentence that begins with the name.
        """
        if is_address(name):
            self.check_address(name)
            return name
        for folder in ("",) if os.path.isabs(name) else self._begin:
            path = os.path.join(folder, name)
            if os.path.lexists(path):
                self.check_file(path, name)
                return path
        raise FedummError(f"names {_quoted(name)}, and there is no such file{self._named(' below ')}")

    def check_file(self, path: str, name: str = "") -> None:
        """Raise :class:`FedummError` unless ``path``, its symbolic links followed, lies where files may be read."""
        real = _real(path)
        if not real.startswith(self._real):
            leads = "" if real == path else f", which leads to {_quoted(real)}"
            border = self._named(" ") or " of any folder of the data"
            raise FedummError(
                f"names {_quoted(name or path)}{leads}: outside{border}. If it may be read, name its folder with "
                "--image_root DIR"
            )
        if not os.path.isfile(real):
            raise FedummError(f"names {_quoted(name or path)}, which is no file")

    def check_address(self, address: str) -> None:
        """Raise :class:`FedummError` unless ``address`` may be fetched."""
        place = address.rsplit("::", 1)[-1]
        if place.startswith(self.own or "\0") and ".." not in place.split("/"):
            return
        if not self.remote:
            raise FedummError(
                f"names {_quoted(address)}, which is on the network. Put the files into a folder, or allow that they "
                "are fetched with --allow_remote_images"
            )
        if place.partition("://")[0].lower() not in _NETWORK:
            raise FedummError(f"names {_quoted(address)}, which is neither a path nor an address on the network")

    def _named(self, before: str) -> str:
        return before + " or ".join(one_line(folder) for folder in self._begin) if self._begin else ""


def is_address(name: str) -> bool:
    """Whether the libraries would look for ``name`` elsewhere than in a folder (``zip://a.png::https://...``, too)."""
    return "://" in name or "::" in name


def check_card(card: Any, places: Places, what: str) -> None:
    """Raise :class:`FedummError` if the ``configs`` of a data card name files on the network that may not be fetched.

    Before ``datasets`` sees the card: it asks for each address while it looks at it.
    """
    for text in _strings(card.get("configs") if isinstance(card, dict) else None):
        if is_address(text):
            try:
                places.check_address(text)
            except FedummError as error:
                raise FedummError(f"{what}: its data card (README.md) {error}.") from None


def check_files(files: Iterable[str], places: Places, what: str) -> None:
    """Raise :class:`FedummError` if one of ``files`` lies elsewhere; ``what``, which begins the sentence, names it."""
    for file in files:
        try:
            places.check_address(file) if is_address(file) else places.check_file(file)
        except FedummError as error:
            raise FedummError(f"{what} {error}.") from None


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _strings(entry)


def _real(path: str) -> str:
    """``os.path.realpath``; of a folder of a million files, once for the folder."""
    folder, file = os.path.split(path)
    place = os.path.join(_real_folder(folder), file)
    return os.path.realpath(place) if os.path.islink(place) or file in ("", ".", "..") else place


@lru_cache(maxsize=4096)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _quoted(name: str) -> str:
    return f"'{one_line(name, 200)}'"
