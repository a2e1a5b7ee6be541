"""Data loader workers that need no shared memory where that is short.

PyTorch's workers hand batches over in ``/dev/shm``, of which containers often have 64 MB. A batch that finds no room
there is lost, and whoever waits for it waits for ever. Such a batch goes through the workers' pipe instead.
"""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader

SHARED_MEMORY = "/dev/shm"

_MARGIN = 4
"""Workers of other hosts write at the same time, and each has a batch waiting."""


class WorkerLoader(DataLoader[Any]):
    """A data loader with workers; takes the arguments of one."""

    def __init__(self, dataset: Any, *, collate_fn: Callable[[Any], Any], num_workers: int, **options: Any) -> None:
        super().__init__(dataset, collate_fn=_Collate(collate_fn, num_workers), num_workers=num_workers, **options)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return map(_unpacked, super().__iter__())


@dataclass(frozen=True)
class _Packed:
    content: bytes


def _unpacked(batch: Any) -> Any:
    return pickle.loads(batch.content) if isinstance(batch, _Packed) else batch


class _Collate:
    """In the worker: the backend's function, and which way its batch goes."""

    def __init__(self, collate: Callable[[Any], Any], workers: int) -> None:
        self._collate, self._workers = collate, workers

    def __call__(self, samples: Any) -> Any:
        batch = self._collate(samples)
        return batch if _MARGIN * self._workers * tensor_bytes(batch) <= _free() else _Packed(pickle.dumps(batch))


def tensor_bytes(batch: Any) -> int:
    """Bytes of the tensors in ``batch``, in mappings, lists and tuples."""
    if isinstance(batch, torch.Tensor):
        return batch.nbytes
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, list | tuple) else ()
    return sum(map(tensor_bytes, parts))


def _free() -> int:
    if not os.path.isdir(SHARED_MEMORY):  # another system, which shares memory otherwise
        return 2**63
    return shutil.disk_usage(SHARED_MEMORY).free
