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


CASES: dict[str, tuple[Corrupt, str]] = {
    "NaN": (with_one(math.nan), f"{LAST} holds NaN or infinite values"),
    "infinite": (with_one(math.inf), f"{LAST} holds NaN or infinite values"),
    "minus infinite": (with_one(-math.inf), f"{LAST} holds NaN or infinite values"),
    "huge": (with_one(3e38), f"{LAST} holds huge values"),
    "times 1e6": (values(lambda t, start: start + 1e6 * (t - start)), "its norm "),
    "many samples": (fields(num_samples=10**12), "it claims 1000000000000 samples, the survey said "),
    "one sample more": (fields(num_samples=lambda u: u.num_samples + 1), "the survey said "),
    "no samples": (fields(num_samples=0), "it claims 0 samples"),
    "negative samples": (fields(num_samples=-5), "it claims -5 samples"),
    "many steps": (fields(steps=10**9), "it claims 1000000000 steps"),
    "a tensor missing": (tensors(lambda s, _: without(s, FIRST)), "packed for an adapter of other names"),
    "a tensor left out": (tensors(lambda s, _: without(s, FIRST), True), f"1 tensor(s) missing, among them {FIRST}"),
    "nothing": (tensors(lambda s, _: {}, True), "it does not say what it trained"),
    "untrained what is there": (fields(untrained=[FIRST]), "1 tensor(s) that it was not to train"),
    "untrained nonsense": (fields(untrained=["x"]), "it does not say what it trained"),
    "a tensor more": (tensors(lambda s, _: {**s, "x": torch.ones(3)}), "packed for an adapter of other names"),
    "renamed": (tensors(lambda s, _: {**without(s, FIRST), "x": s[FIRST]}), "packed for an adapter of other names"),
    "shape": (tensors(lambda s, _: {**s, FIRST: s[FIRST].T.contiguous()}), "other names, shapes or dtypes"),
    "dtype": (tensors(lambda s, _: {**s, FIRST: s[FIRST].double()}), "other names, shapes or dtypes"),
    "coded otherwise": (
        lambda u, _, spec, start: replace(u, adapter=pack(unpack(u.adapter, spec), "int8", spec)),
        "it came as int8 with 1 of its values, expected float32 with 1",
    ),
    "cut otherwise": (
        lambda u, _, spec, start: replace(u, adapter=pack(unpack(u.adapter, spec), "float32", spec, 0.5)),
        "it came as float32 with 0.5 of its values",
    ),
    "garbage": (fields(adapter=bytes(range(256)) * 9), "not a packed adapter"),
    "garbage behind the header": (
        fields(adapter=lambda u: u.adapter[:18] + b"\xff" * (len(u.adapter) - 18)),
        "holds NaN or infinite values",
    ),
    "cut short": (fields(adapter=lambda u: u.adapter[:-7]), "bytes, expected "),
    "too long": (fields(adapter=lambda u: u.adapter + b"\0"), "bytes, expected "),
    "empty": (fields(adapter=b""), "the payload has 0 bytes"),
    "replayed": (lambda u, previous, *_: previous, "it is of round "),
    "of a later round": (fields(round=lambda u: u.round + 7), "it is of round "),
    "loss NaN": (fields(train_loss=math.nan), "its training loss is NaN or infinite"),
    "loss by task infinite": (fields(train_losses={"vqa": math.inf}), "its training loss is NaN or infinite"),
    "trained without data": (fields(train_losses={"t2i": 1.0}), "t2i, for which it has no data"),
    "score NaN": (scored(lambda e: replace(e, score=math.nan)), "its scores are no scores"),
    "score absurd": (scored(lambda e: replace(e, score=1e9)), "its scores are no scores"),
    "score of many": (scored(lambda e: replace(e, count=10**9), "after"), "held-out samples"),
    "score in parts": (scored(lambda e: replace(e, parts={"x": (1.0, -1)})), "its scores are no scores"),
    "score of images": (fields(before={"geneval": Evaluation(1.0, 1, {})}), "scores of geneval"),
    "samples in words": (fields(num_samples="12"), "not an update: num_samples is not a whole number"),
    "round as a fraction": (fields(round=lambda u: float(u.round)), "round is not a whole number"),
    "tensors in words": (fields(adapter="tensors"), "adapter is not bytes"),
    "loss as nothing": (fields(train_losses={"vqa": None}), "not an update: train_losses vqa is not a number"),
    "scores as a number": (fields(before=3), "not an update: "),
    "untrained as a number": (fields(untrained=7), "not an update: "),
    "error as nothing": (fields(error=None), "error is not a text"),
    "control variates": (fields(control=b"x"), "nobody asked for control variates"),
    "of another client": (fields(client="site-1"), "no answer"),
    "failed": (fields(adapter=b"", error="RuntimeError: no memory"), "RuntimeError: no memory"),
}
FORGED = "replayed with another number"
"""For a client whose update of the round before counted."""

CONTROL = "control variates times 1e6"
"""For a run with SCAFFOLD."""

REASONS = {
    CONTROL: "the norm of its control variates' change is above",
    **{case: reason for case, (_, reason) in CASES.items()}, FORGED: "it is, byte for byte, the one that counted last",
    "fails": "RuntimeError: no memory", "once": "RuntimeError: no memory",
}  # fmt: skip
