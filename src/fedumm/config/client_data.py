"""Whose data lie where: ``heidelberg=/data/a,mainz=/data/b``, or a YAML file with a line for each client."""

from __future__ import annotations

import os
import re
from pathlib import Path

from fedumm.config.io import read_yaml
from fedumm.errors import FedummError
from fedumm.texts import one_line

_NAME = re.compile(r"(?!\.+$)[A-Za-z0-9._-]{1,64}")

_FORM = (
    "--client_data is a YAML file with a line 'client: folder' for each client, or client=folder,client=folder with "
    "names of 1 to 64 of A-Z a-z 0-9 . _ -"
)


def client_folders(text: str) -> dict[str, str]:
    """Each client's folder, or name of a data set, in the order of ``text``.

    Raises:
        FedummError: it is not of that form, or names a client twice.
    """
    found: dict[str, str] = {}
    for entry in filter(None, text.split(",")):
        name, equals, place = (part.strip() for part in entry.partition("="))
        if not (equals and place and _NAME.fullmatch(name)):
            raise FedummError(f"{_FORM}: {one_line(entry, 80)!r} is none.")
        if name in found:
            raise FedummError(f"--client_data names {name} twice.")
        found[name] = place
    return found


def client_list(text: str) -> list[str]:
    """The clients of ``heidelberg,mainz``, each once, in its order.

    Raises:
        FedummError: one has a name that no client can have.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if wrong := next((name for name in names if not _NAME.fullmatch(name)), None):
        raise FedummError(f"--without names clients, with commas between, and {one_line(wrong, 80)!r} can't be one.")
    return list(dict.fromkeys(names))


def with_full_paths(given: str) -> str:
    """``given`` as one text without relative paths; a file is read, whose folders may be relative to it.

    Raises:
        FedummError: the file can't be read, or what it holds is not of that form.
    """
    file = Path(given).expanduser()
    if "=" in given and not file.exists():
        folders, beside = client_folders(given), Path()
    else:
        entries = read_yaml(file)
        if wrong := next((n for n, p in entries.items() if not isinstance(p, str) or {",", "="} & {*p}), None):
            raise FedummError(f"{file}: {one_line(wrong, 60)} needs a folder, as a text without ',' and '='.")
        folders, beside = client_folders(",".join(f"{name}={place}" for name, place in entries.items())), file.parent
    if not folders:
        raise FedummError(f"{_FORM}: {one_line(given, 80)} names no client.")
    return ",".join(f"{name}={_full(place, beside)}" for name, place in folders.items())


def _full(place: str, beside: Path) -> str:
    local = beside / Path(place).expanduser()
    return os.path.realpath(local) if local.exists() else place
