"""What training needs of a device: where tensors go, arithmetic, random numbers, free memory, memory that runs out."""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch

from fedumm.errors import FedummError

_TEXTS = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What the allocators of GPU and CPU say, and cuBLAS when nothing is left for its workspace."""

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_CGROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Of version 2 and of version 1: the limit, what is used, and what of that is files that can be read again."""


def pick_device(gpu: str, host: int = 0) -> torch.device:
    """The device of host number ``host``: one of the GPUs in ``gpu`` in turn, or the CPU.

    Raises:
        FedummError: a GPU was asked for that is not there.
    """
    there = torch.cuda.device_count()
    if gpu == "cpu" or (not gpu and not there):
        return torch.device("cpu")
    wanted = gpu.split(",") if gpu else [str(i) for i in range(there)]
    if not all(w.strip().isdecimal() and int(w) < there for w in wanted):
        raise FedummError(f"--gpu {gpu}: this machine has {there} usable GPU(s). Use --gpu cpu to run without.")
    return torch.device("cuda", int(wanted[host % len(wanted)]))


def pick_dtype(precision: str, device: torch.device, model: torch.nn.Module) -> torch.dtype:
    """Type of the matrix products.

    ``auto`` is float32 on the CPU, where bfloat16 can be far slower, and for models in another type
    than float32, whose products are in that type anyway.
    """
    if precision == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        plain = all(p.dtype == torch.float32 for p in model.parameters())
        return torch.bfloat16 if fast and plain else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Matrix products in bfloat16 if that is ``dtype``; otherwise as the tensors are."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def pins(device: torch.device) -> bool:
    """Whether batches are to be made in pinned memory, from which they are copied to ``device`` without waiting."""
    return device.type == "cuda"


def moved(batch: Any, device: torch.device) -> Any:
    """``batch`` with its tensors, in dictionaries, lists and tuples, on ``device``.

    What has a method ``to`` of its own moves itself, anything else stays what it is. The copy does not wait where
    memory is pinned. For a CPU ``batch`` itself is returned.
    """
    if device.type == "cpu":
        return batch
    if type(batch) is dict:
        return {name: moved(part, device) for name, part in batch.items()}
    if type(batch) in (list, tuple):
        return type(batch)(moved(part, device) for part in batch)
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=pins(device))
    return batch.to(device) if callable(getattr(batch, "to", None)) else batch


def synchronize(device: torch.device) -> None:
    """Wait until ``device`` has done all it was given: before a time is taken."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


RandomState = tuple[torch.Tensor, torch.Tensor | None]


def random_state(device: torch.device) -> RandomState:
    """Where the generators of the CPU and of ``device`` are (not of other GPUs that a model is spread over)."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def set_random_state(device: torch.device, state: RandomState) -> None:
    """Go on from what :func:`random_state` gave."""
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)


@contextmanager
def ends_when_full() -> Iterator[None]:
    """The block ends, without an error, where memory runs out; what its calls held is free after it."""
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _TEXTS)):
            raise


def release() -> None:
    """Give back what a failed attempt held: it may hang on in cycles, and its blocks would stay with PyTorch."""
    gc.collect()
    torch.cuda.empty_cache()


def free_bytes(device: torch.device) -> int:
    """Bytes that this process can still take on ``device``; of a CPU within the limit of its control group."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return min([psutil.virtual_memory().available, *_rooms()])


def gpu_bytes(device: torch.device) -> int:
    """All memory of a GPU; 0 of anything else."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process has had: on a GPU of PyTorch's, else of all."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _rooms() -> Iterator[int]:
    """What is left below each limit that Linux sets to this process: containers and job schedulers do."""
    try:
        lines = _OWN_CGROUPS.read_text().splitlines()
    except OSError:  # another system
        return
    for number, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if number != "0" and "memory" not in controllers.split(","):
            continue
        place = _CGROUPS / controllers / path.lstrip("/") if controllers else _CGROUPS / path.lstrip("/")
        for folder in (place, *place.parents):
            if not folder.is_relative_to(_CGROUPS):
                break
            yield from filter(None, (_room(folder, *names) for names in _CGROUP_FILES))


def _room(folder: Path, limit: str, used: str, files: str) -> int | None:
    try:
        most, now = (folder / limit).read_text().strip(), int((folder / used).read_text())
        if not most.isdecimal():
            return None  # "max"
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return max(1, int(most) - now + int(stat.get(files, 0)))
    except (OSError, ValueError):
        return None


class _Kept:
    """Counts the bytes of what is kept for a backward pass; what is kept twice counts once."""

    def __init__(self, budget: int, known: set[int]) -> None:
        self.bytes, self._budget, self._seen = 0, budget, known

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        if self.bytes > self._budget:
            raise torch.OutOfMemoryError(f"out of memory: {self.bytes:,} bytes are kept, of {self._budget:,} allowed")
        return tensor


@contextmanager
def keeps_within(budget: int, model: torch.nn.Module) -> Iterator[None]:
    """In the block, a forward pass keeps at most ``budget`` bytes for its backward pass, ``model``'s own left aside.

    For CPUs, where memory does not run out with an error: the kernel ends the process.

    Raises:
        torch.OutOfMemoryError: it would keep more.
    """
    kept = _Kept(budget, {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())})
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        yield
