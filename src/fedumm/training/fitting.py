"""The number of samples in memory at a time: as their tokens allow, and fewer once memory has run out."""

from __future__ import annotations

from collections.abc import Sequence

from fedumm.backends.protocol import HasKeyValueCache
from fedumm.errors import FedummError
from fedumm.tasks import TASKS
from fedumm.training.backbone import Backbone
from fedumm.training.device import free_bytes, release

CACHE_BYTES = 4_000_000_000
"""Most bytes of keys and values in a batch on a CPU; half of the free memory, if that is less."""


def token_budget(backbone: Backbone) -> int | None:
    """Tokens, padding included, whose keys and values a batch may take; None if the backend does not tell.

    They take at most half of the free memory, rounded down to a power of two (so that a little more or less
    makes no other batches), and on a CPU at most :data:`CACHE_BYTES`.
    """
    backend = backbone.backend
    if not isinstance(backend, HasKeyValueCache):
        return None
    room = 1 << (max(2, free_bytes(backbone.device) // 2).bit_length() - 1)
    most = min(room, CACHE_BYTES) if backbone.device.type == "cpu" else room
    return most // backend.token_bytes(backbone.model)


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


def half(size: int) -> int:
    """How many samples are tried after ``size`` were too many."""
    return (size + 1) // 2


def halve(backbone: Backbone, work: str, size: int, advice: str) -> None:
    """After ``size`` samples at a time were too many: from now on half as many, and the user is told.

    Args:
        work: a task's name, or what else is done; each has a limit of its own.
        advice: the option that sets the size from the start.

    Raises:
        FedummError: it was one sample.
    """
    release()
    what = TASKS[work].activity if work in TASKS else work
    if size <= 1:
        raise FedummError(
            f"Out of memory on {backbone.device}: {what} does not fit, not even one at a time. Free memory there "
            "(other programs, or fewer --hosts that share it), or use a smaller model or --gpu cpu."
        )
    backbone.limits[work] = fewer = half(size)
    backbone.say(
        f"Out of memory on {backbone.device}, {what} {size} at a time: going on with {fewer} at a time. "
        f"{advice} avoids the failed attempt."
    )
