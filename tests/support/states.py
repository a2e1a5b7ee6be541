"""Adapters of any bits, and whether two are the same, bit for bit."""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st

from fedumm.adapters import AdapterState

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8]


def as_bytes(state: AdapterState) -> dict[str, tuple[torch.dtype, tuple[int, ...], bytes]]:
    """Bit patterns: unlike ``==``, equal for NaN and different for 0.0 and -0.0."""
    return {
        name: (t.dtype, tuple(t.shape), t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        for name, t in state.items()
    }


def equal(a: AdapterState, b: AdapterState) -> bool:
    return as_bytes(a) == as_bytes(b)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Any bits in any shape: NaNs, infinities and denormals included; sometimes not contiguous."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    size = math.prod(shape) * dtype.itemsize
    raw = bytearray(draw(st.binary(min_size=size, max_size=size)))
    flat = torch.frombuffer(raw, dtype=dtype) if size else torch.empty(0, dtype=dtype)
    tensor = flat.reshape(shape)
    return tensor.transpose(0, 1) if len(shape) > 1 and draw(st.booleans()) else tensor


STATES = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), tensors(), max_size=4).filter(
    lambda state: "__metadata__" not in state
)
