"""A digest of a model's frozen weights: sites with another one have another model."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import torch

_THREADS = 4
"""Each holds one tensor's copy. Python lets go of its lock while it hashes."""


def frozen_fingerprint(model: torch.nn.Module) -> str:
    """Of all weights that are not trained, rounded to bfloat16: 32 hexadecimal digits; empty if some are not in memory.

    It depends neither on LoRA's options, nor on the names of layers, nor on whether weights were loaded as float32 or
    as bfloat16. Weights in 4 bits, which each kind of device rounds in its own way, are left out.
    """
    frozen = [p.detach() for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    if any(weight.is_meta for weight in frozen):
        return ""
    with ThreadPoolExecutor(_THREADS) as pool:
        found = set(pool.map(_digest, frozen))
    return hashlib.sha256(b"".join(sorted(found))).hexdigest()[:32]


def _digest(weight: torch.Tensor) -> bytes:
    rounded = weight.to(torch.bfloat16).cpu().contiguous()
    found = hashlib.sha256(repr(tuple(rounded.shape)).encode())
    found.update(rounded.reshape(-1).view(torch.uint8).numpy().data)
    return found.digest()
