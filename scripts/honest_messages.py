"""An adapter, updates and messages as honest parties send them: what :mod:`fuzz` breaks."""

from __future__ import annotations

import torch

from fedumm.adapters import AdapterState, encode, spec_of
from fedumm.compression.packing import pack
from fedumm.features.report import CacheReport
from fedumm.federation.protocol.mask_messages import (
    MaskKeys,
    MaskKeysRequest,
    MaskShares,
    MaskSharesRequest,
    Unmasking,
    UnmaskRequest,
)
from fedumm.federation.protocol.messages import (
    ClientUpdate,
    DataStats,
    DataStatsRequest,
    HostError,
    InitReply,
    InitRequest,
    Message,
    RoundReply,
    RoundTask,
    TensorPayload,
)
from fedumm.metrics.evaluation import Evaluation

A, B, BIAS = "x.lora_A.weight", "x.lora_B.weight", "head.bias"
START: AdapterState = {A: torch.randn(2, 24, generator=torch.Generator().manual_seed(0)),
                       B: torch.zeros(20, 2), BIAS: torch.zeros(7)}  # fmt: skip
SPEC = spec_of(START)
SCORES = {"vqa": Evaluation(0.5, 6, {"yes/no": (0.5, 4), "other": (0.5, 2)})}


def moved(seed: int) -> AdapterState:
    generator = torch.Generator().manual_seed(seed)
    return {name: t + 0.01 * torch.randn(t.shape, generator=generator) for name, t in START.items()}


def update(client: str, seed: int) -> ClientUpdate:
    return ClientUpdate(
        client=client,
        round=1,
        adapter=pack(moved(seed), "float32", SPEC),
        untrained=[],
        num_samples=12,
        steps=2,
        train_loss=1.0,
        train_losses={"vqa": 1.0},
        before=SCORES,
        after=SCORES,
        seconds_train=1.0,
        seconds_eval=1.0,
    )


PAIR, SIGNED = [b"1" * 32, b"2" * 32], [b"c" * 800, b"s" * 256]
HONEST = [update(f"site-{k}", k) for k in range(1, 4)]
MESSAGES: tuple[Message, ...] = (
    DataStatsRequest(["site-1", "site-2"]),
    DataStats({"site-1": {"train": 12, "heldout": 6, "tasks": {"vqa": 12}, "labels": {"yes": 12}}}, "iid", "print"),
    InitRequest({"host-1": ["site-1"]}, {"host-1": [0, 1]}, "host-1", [b"change"]),
    InitReply(
        spec=SPEC,
        adapter_config={"r": 2, "lora_alpha": 4},
        trainable=99,
        total=999,
        adapter=encode(START),
        test_samples=6,
        cache=[CacheReport("codes", "disk", 9, 2, 1)],
        device="cpu",
        versions={"torch": "2"},
    ),
    RoundTask(
        round=3,
        train=True,
        adapter=TensorPayload("delta", b"abc"),
        assignments={"host-1": ["site-1"]},
        draw=True,
        factors="B",
        change=b"d",
        control=TensorPayload("whole", b"e"),
        last_accepted_round={"site-1": 2},
        base_round=2,
        scorers={"host-1": ["site-2"]},
    ),
    RoundTask(
        round=4,
        train=False,
        adapter=TensorPayload("whole", b"abc"),
        assignments={},
        draw=True,
        version=2,
    ),
    RoundTask(
        round=1,
        train=True,
        adapter=TensorPayload("whole", b"abc"),
        assignments={"host-1": ["site-1"]},
        masked={"site-1": 12},
    ),
    MaskKeysRequest(1, {"host-1": ["site-1"]}),
    MaskKeys({"site-1": PAIR}, {"site-1": SIGNED}),
    MaskSharesRequest(1, {"site-1": PAIR, "site-2": PAIR}, 2, {"site-1": SIGNED}),
    MaskShares({"site-1": {"site-2": b"2" * 160}}, {"site-1": b"1" * 32}),
    UnmaskRequest(1, ["site-1", "site-2"], {"site-1": {"site-2": b"2" * 160}}),
    Unmasking({"site-1": {"site-2": b"2" * 66}}),
    RoundReply([*HONEST], SCORES, 1.0, ["Out of memory"], 1e-7),
    HostError("no", "Traceback"),
)
