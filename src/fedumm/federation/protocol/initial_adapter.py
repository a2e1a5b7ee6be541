"""The adapter that a run begins with: every host derives it from the seed, so none alone decides it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import torch

from fedumm.adapters import encode
from fedumm.checkpoints import resolve_checkpoint
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.protocol.messages import InitReply

_BASE = "base_model_name_or_path"

Answer = TypeVar("Answer")


def adapter_digest(state: Mapping[str, torch.Tensor]) -> str:
    """Tells adapters apart; equal ones, bit for bit, have equal digests."""
    return hashlib.blake2b(encode(state), digest_size=16).hexdigest()


def outliers(answers: Mapping[str, Answer], key: Callable[[Answer], Hashable]) -> list[str]:
    """Hosts whose ``key`` is not that of the majority; all of them if there is no majority."""
    found = {host: key(answer) for host, answer in answers.items()}
    usual, count = Counter(found.values()).most_common(1)[0]
    if count <= len(found) / 2:
        return sorted(found)
    return sorted(host for host, own in found.items() if own != usual)


_ALIKE: list[tuple[str, Callable[[InitReply], Hashable]]] = [
    ("the adapter's shape: model or LoRA options differ.", lambda ready: (*sorted(ready.spec.items()),)),
    (
        "PEFT's configuration: model, LoRA options or versions differ.",
        lambda ready: repr(sorted(_comparable(ready).items())),
    ),
    ("the first adapter: --seed or the libraries' versions differ.", lambda ready: ready.digest),
]
"""What must be the same on all hosts, and what is said where it is not."""


def check_alike(answers: Mapping[str, InitReply], config: FederateConfig) -> None:
    """All hosts must have derived one adapter of the run's rank and alpha.

    Raises:
        FedummError: some have another; who differs from the majority is named.
    """
    for host, ready in answers.items():
        rank, alpha = (
            ready.adapter_config.get(k, own) for k, own in (("r", config.rank), ("lora_alpha", config.alpha))
        )
        if (rank, alpha) != (config.rank, config.alpha):
            raise FedummError(f"{host} has an adapter of another rank or alpha than --lora_r and --lora_alpha.")
    for what, key in _ALIKE:
        if odd := outliers(answers, key):
            raise FedummError(f"{_differ(odd, answers)} {what}")


def unlike(ready: InitReply, first: InitReply) -> str:
    """What a host has otherwise than ``first``, which the run began with; empty if nothing."""
    return next((f"it differs in {what}" for what, key in _ALIKE if key(ready) != key(first)), "")


def own_adapter_config(answers: Mapping[str, InitReply], config: FederateConfig) -> dict[str, Any]:
    """PEFT's configuration of the global adapter, whose base model is the one that the run's options name.

    Where they name none, it is the backend's own, if all hosts say the same.
    """
    first = next(iter(answers.values())).adapter_config
    if not first:
        return {}
    bases = {ready.adapter_config.get(_BASE) for ready in answers.values()}
    return {**first, _BASE: _named(config) or (bases.pop() if len(bases) == 1 else None)}


def _named(config: FederateConfig) -> str:
    try:
        name = config.model_name_or_path
        return resolve_checkpoint(config.model_backend, name) if name else ""
    except FedummError:  # a name that only the sites know
        return name


def _comparable(ready: InitReply) -> dict[str, Any]:
    """A site's copy of the model may lie anywhere."""
    return {key: value for key, value in ready.adapter_config.items() if key != _BASE}


def _differ(odd: Sequence[str], all_hosts: Collection[str]) -> str:
    verb, others = (
        ("differs" if len(odd) == 1 else "differ"),
        ("" if len(odd) == len(all_hosts) else " from the others"),
    )
    return f"{', '.join(odd)} {verb}{others} in"
