"""What both ends work out alike: what a client starts a round from, and which tensors it sends."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Any

import torch

from fedumm.adapters import AdapterState
from fedumm.adapters.factors import at_rank, factor_of
from fedumm.config import FederateConfig


def client_start(state: Mapping[str, torch.Tensor], config: FederateConfig, client: str) -> AdapterState:
    """The global adapter at the client's rank and alpha; the same weights as far as the rank goes."""
    if config.equal_ranks:
        return dict(state)
    return at_rank(state, config.rank_of(client), config.alpha / config.rank / config.scale_of(client))


def steps_of(config: FederateConfig, rows: int) -> int:
    """Optimiser steps of a client with ``rows`` training rows in a round, which ``--round_minutes`` may cut short."""
    return config.local_epochs * -(-rows // (config.batch_size * config.grad_accum))


def scale_of(adapter_config: Mapping[str, Any], config: FederateConfig) -> float:
    """alpha / rank of the global adapter by its PEFT configuration; rank-stabilised LoRA has the root of the rank."""
    rank = adapter_config.get("r", config.rank)
    scale: float = adapter_config.get("lora_alpha", config.alpha) / rank
    return scale * math.sqrt(rank) if adapter_config.get("use_rslora") else scale


def communicated_tensors(names: Mapping[str, object], factors: Container[str]) -> set[str]:
    """Of the tensors ``names``, the LoRA factors in ``factors``, and all that are no factors."""
    return {name for name in names if (factor := factor_of(name)) is None or factor in factors}
