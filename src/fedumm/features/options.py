"""How features are kept, and where."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch


def _silent(_: str) -> None: ...


@dataclass(frozen=True)
class CacheOptions:
    """How features are kept.

    Attributes:
        mode: auto, memory, disk or off.
        memory_bytes: most that ``auto`` and ``memory`` may take in memory.
        folder: where files go.
        dtype: in which they are kept; of int8, multiples of scales.
        named: whether the user chose the folder; then its group may share it (:mod:`fedumm.features.rights`).
        disk_bytes: most that the whole cache may take on disk; 0: no such limit.
        arithmetic: type of the stage's products.
        model: what the user calls the model, for people who look at the folder.
        say: given a line for the user when a damaged file is found during the run.
    """

    mode: str
    memory_bytes: int
    folder: Path
    dtype: torch.dtype = torch.float32
    named: bool = False
    disk_bytes: int = 0
    arithmetic: torch.dtype = torch.float32
    model: str = ""
    say: Callable[[str], None] = _silent


def default_folder() -> Path:
    """``FEDUMM_CACHE``, or ``fedumm`` in the user's cache directory; with ``~`` in it for a user without a home."""
    own = os.environ.get("FEDUMM_CACHE")
    if own:
        return Path(own)
    return Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")) / "fedumm"


def is_named(feature_cache_dir: str) -> bool:
    """Whether the user chose the folder of the cache."""
    return bool(feature_cache_dir or os.environ.get("FEDUMM_CACHE"))
