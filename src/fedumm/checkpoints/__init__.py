"""The small checkpoints that ship with the package, and how a model name becomes a place."""

from __future__ import annotations

from pathlib import Path

from fedumm.errors import FedummError

_FOLDER = Path(__file__).parent


def resolve_checkpoint(backend: str, name: str) -> str:
    """The folder of the shipped checkpoint ``tiny``, an existing folder, or a Hub id.

    Raises:
        FedummError: ``name`` looks like a folder that is not there.
    """
    if name == "tiny":
        folder = _FOLDER / f"tiny_{backend}"
        if not folder.is_dir():
            raise FedummError(f"No checkpoint 'tiny' ships for the backend {backend!r}.")
        return str(folder)
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise FedummError(f"--model_name_or_path {name}: no such folder, and not a Hub id (owner/name) or 'tiny'.")
    return name
