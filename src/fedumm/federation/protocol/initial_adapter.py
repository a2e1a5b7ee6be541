"""The adapter that a run begins with: every host derives it from the seed, so none alone decides it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import torch

from fedumm.adapters import encode
from fedumm.checkpoints import resolve_checkpoint
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.protocol.messages import InitReply

_BASE = "base_model_name_or_path"
_RANK = "has an adapter of another rank or alpha than --lora_r and --lora_alpha."
_WEIGHTS = "the frozen weights: the model is another one."

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
    (_WEIGHTS, lambda ready: ready.fingerprint or None),
]
"""What must be the same on all hosts that tell it (not None), and what is said where it is not."""


def odd_ones(answers: Mapping[str, InitReply], config: FederateConfig) -> dict[str, str]:
    """Hosts that have begun otherwise than the majority, each with what it does: ``differs from the others in ...``.

    Raises:
        FedummError: there is no majority.
    """
    odd = {host: _RANK for host, ready in answers.items() if not _fits(ready, config)}
    for what, key in _ALIKE:
        alike = {host: ready for host, ready in answers.items() if host not in odd and key(ready) is not None}
        found = outliers(alike, key) if alike else []
        if found and len(found) == len(alike):
            raise FedummError(f"{', '.join(found)} differ in {what}")
        usual = [ready for host, ready in alike.items() if host not in found]
        odd |= {host: f"differs from the others in {_told(what, alike[host], usual[0])}" for host in found}
    return odd


def check_alike(answers: Mapping[str, InitReply], config: FederateConfig) -> None:
    """All hosts must have derived one adapter of the run's rank and alpha, on the same frozen weights.

    Raises:
        FedummError: some have not; who differs from the majority is named.
    """
    if odd := odd_ones(answers, config):
        raise FedummError(" ".join(f"{host} {why}" for host, why in sorted(odd.items())))


def unlike(ready: InitReply, first: InitReply) -> str:
    """What a host has otherwise than ``first``, which the run began with; empty if nothing."""
    for what, key in _ALIKE:
        if None not in (key(ready), key(first)) and key(ready) != key(first):
            return f"it differs in {_told(what, ready, first)}"
    return ""


def _fits(ready: InitReply, config: FederateConfig) -> bool:
    own = ready.adapter_config
    return (own.get("r", config.rank), own.get("lora_alpha", config.alpha)) == (config.rank, config.alpha)


def _told(what: str, ready: InitReply, usual: InitReply) -> str:
    if what is not _WEIGHTS:
        return what
    own, others = (f"{one.fingerprint[:8]}..." for one in (ready, usual))
    return f"{what} Their fingerprint is {own}, not {others} (fedumm check-site shows it)."


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
