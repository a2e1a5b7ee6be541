"""The small checkpoints that ship with the package, and how a model name becomes a place."""

from __future__ import annotations

import os
from pathlib import Path

from fedumm.errors import FedummError

_FOLDER = Path(__file__).parent

LONGEST_HUB_ID = 193
"""``OWNER/NAME``, each of at most 96 characters."""

NATIVE = {
    name: f"deepseek-community/{name.split('/')[1]}"
    for name in ("deepseek-ai/Janus-Pro-1B", "deepseek-ai/Janus-Pro-7B")
}
"""Hub ids in a layout that ``transformers`` can't read, and those of the same weights in one that it can."""


def resolve_checkpoint(backend: str, name: str) -> str:
    """The folder of the shipped checkpoint ``tiny``, an existing folder, or a Hub id.

    Raises:
        FedummError: ``name`` looks like a folder that is not there, or is known not to be readable.
    """
    if name == "tiny":
        folder = _FOLDER / f"tiny_{backend}"
        if not folder.is_dir():
            raise FedummError(f"No checkpoint 'tiny' ships for the backend {backend!r}.")
        return str(folder)
    # Unlike pathlib's, these say no to a name that can't be.
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        return path
    if name.startswith((".", "/", "~")) or name.count("/") != 1 or len(name) > LONGEST_HUB_ID:
        raise FedummError(f"--model_name_or_path {name}: no such folder, and not a Hub id (owner/name) or 'tiny'.")
    if name in NATIVE:
        raise FedummError(old_layout(name, NATIVE[name]))
    return name


def old_layout(name: str, native: str) -> str:
    """What to say of a Janus that ``transformers`` can't read."""
    return (
        f"{name} is in the layout of the 'janus' package, which transformers can't read. "
        f"The same weights in the native layout are {native}."
    )
