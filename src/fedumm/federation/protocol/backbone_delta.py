"""A change of the backbone as bytes: two factors for each layer that changed."""

from __future__ import annotations

import json

from fedumm.adapters import spec_of
from fedumm.aggregation.base import BackboneDelta
from fedumm.compression.packing import pack, unpack

_LEFT, _RIGHT = ".left", ".right"


def pack_backbone_delta(change: BackboneDelta, wire: str) -> bytes:
    """A change of the backbone: its shapes as a line of JSON, then the codec's bytes; empty if there is none."""
    if not change:
        return b""
    left = {module + _LEFT: pair[0] for module, pair in change.items()}
    state = left | {module + _RIGHT: pair[1] for module, pair in change.items()}
    spec = spec_of(state)
    return json.dumps(spec).encode() + b"\n" + pack(state, wire, spec)


def unpack_backbone_delta(payload: bytes) -> BackboneDelta:
    """The inverse of :func:`pack_backbone_delta`, as far as the codec is exact.

    Raises:
        ValueError: ``payload`` is no change.
    """
    if not payload:
        return {}
    head, _, body = payload.partition(b"\n")
    try:
        spec = {name: (tuple(shape), dtype) for name, (shape, dtype) in json.loads(head).items()}
    except (AttributeError, TypeError, RecursionError) as error:
        raise ValueError("it does not begin with shapes") from error
    state = unpack(body, spec)
    modules = sorted(name.removesuffix(_LEFT) for name in state if name.endswith(_LEFT))
    if {m + end for m in modules for end in (_LEFT, _RIGHT)} != state.keys():
        raise ValueError("not a change of the backbone")
    return {module: (state[module + _LEFT], state[module + _RIGHT]) for module in modules}
