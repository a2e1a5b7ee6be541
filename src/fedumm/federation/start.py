"""What both ends work out alike: what a client starts a round from, and which tensors it sends."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Mapping
from typing import Any

import torch

from fedumm.adapters import AdapterState, spec_of
from fedumm.adapters.codec import pack, unpack
from fedumm.adapters.factors import at_rank, factor_of
from fedumm.aggregation.base import Change
from fedumm.config import FederateConfig

_LEFT, _RIGHT = ".left", ".right"


def client_start(state: Mapping[str, torch.Tensor], config: FederateConfig, client: str) -> AdapterState:
    """The global adapter at the client's rank and alpha; the same weights as far as the rank goes."""
    if config.equal_ranks:
        return dict(state)
    return at_rank(state, config.rank_of(client), config.alpha / config.rank / config.scale_of(client))


def steps_of(config: FederateConfig, rows: int) -> int:
    """Optimiser steps of a client with ``rows`` training rows in a round."""
    return config.local_epochs * -(-rows // (config.batch_size * config.grad_accum))


def scale_of(adapter_config: Mapping[str, Any], config: FederateConfig) -> float:
    """alpha / rank of the global adapter by its PEFT configuration; rank-stabilised LoRA has the root of the rank."""
    rank = adapter_config.get("r", config.rank)
    scale: float = adapter_config.get("lora_alpha", config.alpha) / rank
    return scale * math.sqrt(rank) if adapter_config.get("use_rslora") else scale


def travelling(names: Mapping[str, object], factors: Container[str]) -> set[str]:
    """Of the tensors ``names``, the LoRA factors in ``factors``, and all that are no factors."""
    return {name for name in names if (factor := factor_of(name)) is None or factor in factors}


def packed_change(change: Change, wire: str) -> bytes:
    """A change of the backbone: its shapes as a line of JSON, then the codec's bytes; empty if there is none."""
    if not change:
        return b""
    left = {module + _LEFT: pair[0] for module, pair in change.items()}
    state = left | {module + _RIGHT: pair[1] for module, pair in change.items()}
    spec = spec_of(state)
    return json.dumps(spec).encode() + b"\n" + pack(state, wire, spec)


def unpacked_change(payload: bytes) -> Change:
    """The inverse of :func:`packed_change`, as far as the codec is exact.

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
