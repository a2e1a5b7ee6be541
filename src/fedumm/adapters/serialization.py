"""The adapter as bytes: a safetensors file image, never a pickle.

What is counted as traffic is the length of these bytes; they are what travels, in
process and through NVIDIA FLARE alike.
"""

from __future__ import annotations

from collections.abc import Mapping

from safetensors import SafetensorError

from fedumm.adapters.state import AdapterState
from fedumm.lazy import torch


def encode(state: Mapping[str, torch.Tensor]) -> bytes:
    """Serialise; equal states give equal bytes."""
    from safetensors.torch import save

    payload: bytes = save({name: state[name].contiguous() for name in sorted(state)})
    return payload


def decode(payload: bytes) -> AdapterState:
    """The inverse of :func:`encode`.

    The tensors are PyTorch's own: a matrix product of float32 may round otherwise where its operands begin elsewhere
    in memory, and where bytes that arrived lie is chance.

    Raises:
        ValueError: ``payload`` is not what :func:`encode` writes.
    """
    from safetensors.torch import load

    try:
        return {name: tensor.clone() for name, tensor in sorted(load(payload).items())}
    except (SafetensorError, TypeError, KeyError) as error:
        raise ValueError(f"not an adapter: {error}") from error
