"""The next batch is read while the model works on this one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import torch
from torch.utils.data import DataLoader

from fedumm.training.device import pins

_PATIENCE = 0.2
"""Seconds after which the thread looks whether anybody still waits for its batches."""


class PrefetchLoader(DataLoader[Any]):
    """A data loader without workers, whose next batch a thread makes (and pins); the same batches in the same order.

    One batch is held besides the one in use. What making a batch raises is raised where that batch would come.
    For data sets that draw no random numbers: those of the process belong to the model.

    Args:
        device: that pinned memory is for.
        options: of a data loader.
    """

    def __init__(self, dataset: Any, *, device: torch.device, **options: Any) -> None:
        super().__init__(dataset, num_workers=0, pin_memory=pins(device), **options)
        self._device = device

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # Made here: it takes a random number, which has to be the same one as without a thread.
        return _ahead(super().__iter__(), self._device)


def _ahead(batches: Iterator[Any], device: torch.device) -> Iterator[Any]:
    made: SimpleQueue[tuple[str, Any]] = SimpleQueue()
    room, stopped = threading.Semaphore(1), threading.Event()
    thread = threading.Thread(target=_make, args=(batches, device, made, room, stopped), name="batches")
    thread.start()
    try:
        while True:
            kind, value = made.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            room.release()
            yield value
            del value
    finally:
        stopped.set()
        room.release()
        thread.join()


def _make(
    batches: Iterator[Any],
    device: torch.device,
    made: SimpleQueue[tuple[str, Any]],
    room: threading.Semaphore,
    stopped: threading.Event,
) -> None:
    try:
        if device.type == "cuda" and device.index is not None:
            # A new thread has the first GPU, where pinning would take memory.
            torch.cuda.set_device(device)
        while _may_go_on(room, stopped):
            made.put(("batch", next(batches)))
    except StopIteration:
        made.put(("end", None))
    except BaseException as error:  # raised in the thread that asks for the batch
        made.put(("error", error))


def _may_go_on(room: threading.Semaphore, stopped: threading.Event) -> bool:
    """Wait until a batch may be made; not if nobody takes it, since the program ends."""
    while not room.acquire(timeout=_PATIENCE):
        if not threading.main_thread().is_alive():
            return False
    return not stopped.is_set()
