"""Files of the feature cache, changed by somebody who knows how they are made."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]


def rewrite(path: Path, change: Callable[[Tensors], Any], *, summed: bool = True, **metadata: str) -> None:
    """Let ``change`` alter the tensors in ``path``; ``summed``: with checksums that are right for them."""
    with safe_open(path, "pt") as file:
        tensors, facts = {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata()  # noqa: SIM118
    change(tensors)
    path.unlink()
    sums = {"crc32": " ".join(checksums(tensors))} if summed else {}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, facts | sums | metadata)


def checksums(tensors: Tensors) -> list[str]:
    """CRC-32 of each image: for features, scales (if any) and numbers beside their count (8 bytes), and the bytes."""
    features = _images(tensors["features"], tensors.get("lengths"))
    beside = _images(tensors.get("beside", torch.zeros(0)), tensors.get("beside_lengths", torch.zeros(len(features))))
    sums = []
    for image, (own, numbers) in enumerate(zip(features, beside, strict=False)):
        scales = [tensors["scales"][image]] if "scales" in tensors else []
        content = b"".join(struct.pack("<q", len(part)) + _bytes(part) for part in (own, *scales, numbers))
        sums.append(f"{zlib.crc32(content):08x}")
    return sums


def _images(values: torch.Tensor, lengths: torch.Tensor | None) -> list[torch.Tensor]:
    if lengths is None:
        return list(values)
    ends = list(accumulate(lengths.long().tolist(), initial=0))
    return [values[start:stop] for start, stop in pairwise(ends)]


def _bytes(values: torch.Tensor) -> bytes:
    return bytes(values.contiguous().flatten().view(torch.uint8).tolist())
