"""The adapter as a folder: PEFT's layout, written without the model being there."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fedumm.adapters.state import AdapterState
from fedumm.adapters.wire import decode, encode
from fedumm.errors import FedummError

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
CARD = "README.md"


def save_folder(folder: Path, state: Mapping[str, torch.Tensor], adapter_config: Mapping[str, Any], card: str) -> None:
    """Write weights, ``adapter_config.json`` and model card; the folder changes as a whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (draft / WEIGHTS).write_bytes(encode(state))
        (draft / CONFIG).write_text(json.dumps(dict(adapter_config), indent=2, sort_keys=True) + "\n")
        (draft / CARD).write_text(card)
        draft.chmod(0o755)
        _replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _replace(draft: Path, folder: Path) -> None:
    """A folder cannot be renamed onto a full one: move the old one aside first."""
    old = folder.with_name(f".{folder.name}-old")
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


def read_folder(folder: str | Path) -> tuple[AdapterState, dict[str, Any]]:
    """Weights and configuration of an adapter folder.

    Raises:
        FedummError: no such folder, or no adapter in it.
    """
    path = Path(folder)
    if not path.is_dir():
        raise FedummError(f"Adapter folder not found: {folder}")
    try:
        state, config = decode((path / WEIGHTS).read_bytes()), json.loads((path / CONFIG).read_text())
        if not isinstance(config, dict):
            raise ValueError(f"{CONFIG} holds no object")
        return state, config
    except (OSError, ValueError) as error:
        raise FedummError(f"{folder} does not hold an adapter ({WEIGHTS}, {CONFIG}): {error}") from error
