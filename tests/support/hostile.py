"""Every way in which a client's update can be bad, and what the server says of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from fedumm.adapters import AdapterState, Spec, spec_of
from fedumm.compression.packing import pack, unpack
from fedumm.federation.protocol.messages import ClientUpdate
from fedumm.federation.server.rejection import RejectionCode
from fedumm.metrics.evaluation import Evaluation

FIRST, LAST = "base_model.model.answer.lora_A.weight", "base_model.model.second.lora_B.weight"
"""Two tensors of the toy with LoRA."""

Corrupt = Callable[[ClientUpdate, ClientUpdate, Spec, AdapterState], ClientUpdate]
"""From the update, the one of the round before, the adapter's shapes and the global adapter."""


def fields(**values: Any) -> Corrupt:
    """Something else is claimed; ``values`` may be functions of the update."""
    return lambda u, *_: replace(u, **{n: v(u) if callable(v) else v for n, v in values.items()})


def tensors(alter: Callable[[AdapterState, AdapterState], AdapterState], honest_spec: bool = False) -> Corrupt:
    """Other tensors, packed as what they are, or as what the server expects."""

    def corrupt(update: ClientUpdate, _: ClientUpdate, spec: Spec, start: AdapterState) -> ClientUpdate:
        state = alter(unpack(update.adapter, spec), start)
        return replace(update, adapter=pack(state, "float32", spec if honest_spec else spec_of(state)))

    return corrupt


def values(alter: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Corrupt:
    """Other values in every tensor, made of what was trained and what that started from."""
    return tensors(lambda state, start: {name: alter(t, start[name]) for name, t in state.items()}, True)


def with_one(value: float) -> Corrupt:
    """One other value in one tensor."""

    def alter(state: AdapterState, _: AdapterState) -> AdapterState:
        state[LAST].view(-1)[-1] = value
        return state

    return tensors(alter, True)


def without(state: AdapterState, name: str) -> AdapterState:
    return {other: t for other, t in state.items() if other != name}


def scored(evaluation: Callable[[Evaluation], Evaluation], when: str = "before") -> Corrupt:
    return lambda u, *_: replace(u, **{when: {"vqa": evaluation(getattr(u, when)["vqa"])}})


CASES: dict[str, tuple[Corrupt, RejectionCode]] = {
    "NaN": (with_one(math.nan), "non_finite"),
    "infinite": (with_one(math.inf), "non_finite"),
    "minus infinite": (with_one(-math.inf), "non_finite"),
    "huge": (with_one(3e38), "huge"),
    "times 1e6": (values(lambda t, start: start + 1e6 * (t - start)), "norm"),
    "many samples": (fields(num_samples=10**12), "claims"),
    "one sample more": (fields(num_samples=lambda u: u.num_samples + 1), "claims"),
    "no samples": (fields(num_samples=0), "claims"),
    "negative samples": (fields(num_samples=-5), "claims"),
    "many steps": (fields(steps=10**9), "claims"),
    "a tensor missing": (tensors(lambda s, _: without(s, FIRST)), "payload"),
    "a tensor left out": (tensors(lambda s, _: without(s, FIRST), True), "tensors"),
    "nothing": (tensors(lambda s, _: {}, True), "tensors"),
    "untrained what is there": (fields(untrained=[FIRST]), "tensors"),
    "untrained nonsense": (fields(untrained=["x"]), "tensors"),
    "a tensor more": (tensors(lambda s, _: {**s, "x": torch.ones(3)}), "payload"),
    "renamed": (tensors(lambda s, _: {**without(s, FIRST), "x": s[FIRST]}), "payload"),
    "shape": (tensors(lambda s, _: {**s, FIRST: s[FIRST].T.contiguous()}), "payload"),
    "dtype": (tensors(lambda s, _: {**s, FIRST: s[FIRST].double()}), "payload"),
    "coded otherwise": (
        lambda u, _, spec, start: replace(u, adapter=pack(unpack(u.adapter, spec), "int8", spec)),
        "payload",
    ),
    "cut otherwise": (
        lambda u, _, spec, start: replace(u, adapter=pack(unpack(u.adapter, spec), "float32", spec, 0.5)),
        "payload",
    ),
    "garbage": (fields(adapter=bytes(range(256)) * 9), "payload"),
    "garbage behind the header": (
        fields(adapter=lambda u: u.adapter[:18] + b"\xff" * (len(u.adapter) - 18)),
        "non_finite",
    ),
    "cut short": (fields(adapter=lambda u: u.adapter[:-7]), "payload"),
    "too long": (fields(adapter=lambda u: u.adapter + b"\0"), "payload"),
    "empty": (fields(adapter=b""), "payload"),
    "replayed": (lambda u, previous, *_: previous, "stale"),
    "of a later round": (fields(round=lambda u: u.round + 7), "stale"),
    "loss NaN": (fields(train_loss=math.nan), "loss"),
    "loss by task infinite": (fields(train_losses={"vqa": math.inf}), "loss"),
    "trained without data": (fields(train_losses={"t2i": 1.0}), "claims"),
    "score NaN": (scored(lambda e: replace(e, score=math.nan)), "score"),
    "score absurd": (scored(lambda e: replace(e, score=1e9)), "score"),
    "score of many": (scored(lambda e: replace(e, count=10**9), "after"), "score"),
    "score in parts": (scored(lambda e: replace(e, parts={"x": (1.0, -1)})), "score"),
    "score of images": (fields(before={"geneval": Evaluation(1.0, 1, {})}), "score"),
    "samples in words": (fields(num_samples="12"), "failed"),
    "round as a fraction": (fields(round=lambda u: float(u.round)), "failed"),
    "tensors in words": (fields(adapter="tensors"), "failed"),
    "loss as nothing": (fields(train_losses={"vqa": None}), "failed"),
    "scores as a number": (fields(before=3), "failed"),
    "untrained as a number": (fields(untrained=7), "failed"),
    "error as nothing": (fields(error=None), "failed"),
    "control variates": (fields(control=b"x"), "control"),
    "of another client": (fields(client="site-1"), "missing"),
    "failed": (fields(adapter=b"", error="RuntimeError: no memory"), "failed"),
}
FORGED = "replayed with another number"
"""For a client whose update of the round before counted."""

CONTROL = "control variates times 1e6"
"""For a run with SCAFFOLD."""

REJECTED: dict[str, RejectionCode] = {
    CONTROL: "norm", **{case: code for case, (_, code) in CASES.items()},
    FORGED: "duplicate", "fails": "failed", "once": "failed",
}  # fmt: skip
"""The code that the server has for each."""
