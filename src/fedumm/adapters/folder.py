"""The adapter as a folder: PEFT's layout, written without the model being there."""

from __future__ import annotations

import glob
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fedumm.adapters.origin import ORIGIN, Origin
from fedumm.adapters.serialization import decode, encode
from fedumm.adapters.state import AdapterState
from fedumm.errors import FedummError
from fedumm.texts import one_line

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
CARD = "README.md"


def save_folder(
    folder: Path,
    state: Mapping[str, torch.Tensor],
    adapter_config: Mapping[str, Any],
    card: str,
    origin: Origin | None = None,
) -> None:
    """Write weights, ``adapter_config.json`` and model card; the folder changes as a whole or not at all.

    Args:
        origin: what the adapter's model is built from. Without it, whoever uses the folder has to know.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Not by tempfile, whose folders are for this user only: here the umask decides.
    draft = folder.with_name(f".{folder.name}-{secrets.token_hex(8)}")
    draft.mkdir()
    try:
        (draft / WEIGHTS).write_bytes(encode(state))
        config = json.dumps(dict(adapter_config), indent=2, sort_keys=True) + "\n"
        texts = {CONFIG: config, CARD: card, **({ORIGIN: origin.text()} if origin else {})}
        for name, text in texts.items():
            (draft / name).write_text(text, encoding="utf-8")
        _replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def mend_folder(folder: Path) -> None:
    """Clear away what a process that was killed in :func:`save_folder` has left; the last whole adapter stays.

    For one process at a time. Folders only: what is a link is nobody's draft.
    """
    if not folder.exists() and _aside(folder).is_dir() and not _aside(folder).is_symlink():
        os.replace(_aside(folder), folder)
    for draft in folder.parent.glob(f".{glob.escape(folder.name)}-*"):
        if not draft.is_symlink():
            shutil.rmtree(draft, ignore_errors=True)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}-old")


def _replace(draft: Path, folder: Path) -> None:
    """A folder cannot be renamed onto a full one: move the old one aside first."""
    old = _aside(folder)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(draft, folder)
    except OSError:
        if old.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _of_a_run(path: Path) -> str:
    """Where the adapter of the run in ``path`` is; empty if there is no run."""
    inside = path / "adapter" / "best"
    inside = inside if inside.is_dir() else path / "adapter"
    return f". The adapter of that run: --adapter {inside}" if (inside / WEIGHTS).is_file() else ""


def read_folder(folder: str | Path) -> tuple[AdapterState, dict[str, Any]]:
    """Weights and configuration of an adapter folder.

    Raises:
        FedummError: no such folder, or no adapter in it.
    """
    path = Path(folder)
    if not os.path.isdir(path):
        raise FedummError(f"Adapter folder not found: {folder}{_of_a_run(Path('runs', path))}")
    if hint := _of_a_run(path):
        raise FedummError(f"{folder} holds a run, not an adapter{hint}")
    try:
        for name in (WEIGHTS, CONFIG):
            # Opening another kind, such as a pipe, may wait for ever.
            if (path / name).exists() and not (path / name).is_file():
                raise ValueError(f"{name} is no file")
        state, config = decode((path / WEIGHTS).read_bytes()), json.loads((path / CONFIG).read_bytes())
        if not isinstance(config, dict):
            raise ValueError(f"{CONFIG} holds no object")
        return state, config
    except (OSError, ValueError, RecursionError) as error:
        raise FedummError(f"{folder} does not hold an adapter ({WEIGHTS}, {CONFIG}): {one_line(error)}") from error
