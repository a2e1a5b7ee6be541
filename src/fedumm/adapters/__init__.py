"""LoRA in, state out: the adapter as named tensors, its checks, its bytes and its folder.

What needs PEFT is in :mod:`fedumm.adapters.model` and imported from there: the server does without.
"""

from fedumm.adapters.serialization import decode, encode
from fedumm.adapters.state import AdapterState, Spec, check_state, check_values, spec_of

__all__ = ["AdapterState", "Spec", "check_state", "check_values", "decode", "encode", "spec_of"]
