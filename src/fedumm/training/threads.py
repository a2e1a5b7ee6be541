"""The number of threads for a model.

PyTorch splits a single operation among threads. In a small model the operations are short: a
second thread gains little, and loses much as soon as another program has its core
(``benchmarks/threads.py``). Such a model runs on one core, and a simulation uses the others for
more hosts.
"""

from __future__ import annotations

import os
from pathlib import Path

from fedumm.backends.registry import SHIPPED
from fedumm.checkpoints import resolve_checkpoint
from fedumm.config import RunConfig

SMALL_MODEL_BYTES = 50_000_000


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fits_one_core(config: RunConfig) -> bool:
    """Whether the model's weights are local files of at most 50 MB; False if unknown."""
    # By name alone: processes with and without the run's plugins, which may replace what is shipped, count alike.
    if config.model_backend not in SHIPPED or not config.model_name_or_path:
        return False
    folder = Path(resolve_checkpoint(config.model_backend, config.model_name_or_path))
    files = list(folder.glob("*.safetensors")) if folder.is_dir() else []
    return bool(files) and sum(file.stat().st_size for file in files) <= SMALL_MODEL_BYTES


def thread_count(config: RunConfig, hosts: int = 1, within: int = 0) -> int:
    """Torch threads of each host: ``--threads``, or one for a small model, or the cores divided by the hosts.

    Args:
        within: so many cores; 0: those that this process may use.
    """
    return config.threads or (1 if fits_one_core(config) else max(1, (within or cores()) // hosts))
