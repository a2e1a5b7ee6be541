"""LoRA in, state out: the adapter as named tensors, its checks, its bytes and its folder."""

from fedumm.adapters.state import AdapterState, Spec, adapter_of, check_state, load_adapter, spec_of
from fedumm.adapters.wire import decode, encode

__all__ = [
    "AdapterState",
    "Spec",
    "adapter_of",
    "check_state",
    "decode",
    "encode",
    "load_adapter",
    "spec_of",
]
