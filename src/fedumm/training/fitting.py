"""The number of samples in memory at a time: as their tokens allow, and fewer once memory has run out."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from fedumm.backends.protocol import HasKeyValueCache
from fedumm.errors import FedummError
from fedumm.tasks import TASKS
from fedumm.training.backbone import Backbone

CACHE_BYTES = 4_000_000_000
"""Most bytes of keys and values in a batch that is scored or drawn."""

_TEXTS = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What the allocators of GPU and CPU say, and cuBLAS when nothing is left for its workspace."""


def token_budget(backbone: Backbone) -> int | None:
    """Tokens, padding included, whose keys and values take :data:`CACHE_BYTES`; None if the backend does not tell."""
    backend = backbone.backend
    return CACHE_BYTES // backend.token_bytes(backbone.model) if isinstance(backend, HasKeyValueCache) else None


def fitting(tokens: Sequence[int], most: int, budget: int | None) -> int:
    """How many of the first samples make a batch: at most ``most``, and ``budget`` tokens when padded to the longest.

    Args:
        tokens: of each sample; at least one sample is taken, whatever its length.
    """
    count = longest = 0
    for length in tokens[:most]:
        longest = max(longest, length)
        if budget is not None and count and (count + 1) * longest > budget:
            break
        count += 1
    return count


@contextmanager
def ends_when_full() -> Iterator[None]:
    """The block ends, without an error, where memory runs out; what its calls held is free after it."""
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _TEXTS)):
            raise


def halve(backbone: Backbone, task: str, size: int, option: str) -> None:
    """After ``size`` samples at a time were too many: from now on half as many, and the user is told.

    Args:
        task: its name; each task has a limit of its own.
        option: sets the size from the start.

    Raises:
        FedummError: it was one sample.
    """
    # The failed batch may hang on in cycles, and its blocks would stay with PyTorch.
    gc.collect()
    torch.cuda.empty_cache()
    what = TASKS[task].activity if task in TASKS else task
    if size <= 1:
        raise FedummError(
            f"Out of memory on {backbone.device}: {what} does not fit, not even one at a time. Free memory there "
            "(other programs, or fewer --hosts that share it), or use a smaller model or --gpu cpu."
        )
    backbone.limits[task] = half = (size + 1) // 2
    backbone.say(
        f"Out of memory on {backbone.device}, {what} {size} at a time: going on with {half} at a time. "
        f"{option} {half} avoids the failed attempt."
    )
