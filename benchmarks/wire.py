#!/usr/bin/env python
"""Bytes per client and round, by codec, against float32.

    python benchmarks/wire.py

A round's update of a client and the server's message with the next adapter, as `--wire` packs them (differences of
1e-3, drawn at random: sizes do not depend on values), each as FLARE serialises the message (its headers not counted).
"x" is the share of float32's bytes. Milliseconds are processor time of one thread, the least of five: coding the
update, which decodes it as well where rounding has to be remembered, and decoding it. The second table: what sending
the model would take.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from nvflare.fuel.utils import fobs

from common import Table, main, model_folder
from fedumm.adapters import AdapterState, spec_of
from fedumm.compression.registry import WIRES
from fedumm.config import CentralConfig
from fedumm.federation.protocol.messages import ClientUpdate, RoundReply, RoundTask
from fedumm.federation.protocol.transfer import Downlink, pack_update, unpack_update
from fedumm.federation.runners.flare.shareables import pack
from fedumm.metrics.evaluation import Evaluation
from fedumm.training.backbone import load_backbone

SCORE = {"vqa": Evaluation(0.5, 100, {"yes/no": (0.5, 50), "color": (0.5, 25), "shape": (0.5, 25)})}
CODINGS = [(wire, 1.0) for wire in WIRES] + [("int8", 0.1), ("nf4", 0.1)]
"""``--wire`` and ``--top_k``."""


def fastest(work: Callable[[], Any]) -> float:
    """Milliseconds of processor time, which other programs on the machine do not lengthen much."""
    times = []
    for _ in range(5):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def message_sizes(start: AdapterState, trained: AdapterState, wire: str, keep: float) -> tuple[int, int]:
    """Bytes down and up."""
    spec = spec_of(start)
    payload = Downlink(wire, True, spec, start).send(trained)
    update, _ = pack_update(start, trained, wire, keep, spec, {})
    down = RoundTask(round=2, train=True, adapter=payload, assignments={"host-1": ["site-1"]})
    up = RoundReply(
        [
            ClientUpdate(
                client="site-1",
                round=2,
                adapter=update,
                untrained=[],
                num_samples=1000,
                steps=16,
                train_loss=0.5,
                train_losses={"vqa": 0.5},
                before=SCORE,
                after=SCORE,
                seconds_train=1.0,
                seconds_eval=1.0,
            )
        ],
        SCORE,
        1.0,
    )
    return len(fobs.dumps(pack(down))), len(fobs.dumps(pack(up)))


def measure_size(size: str) -> tuple[list[list[str]], list[str]]:
    """A row for each codec, and one that compares with the model."""
    backbone = load_backbone(
        CentralConfig(model_backend="blip_vqa", model_name_or_path=model_folder(size)), torch.device("cpu")
    )
    start = backbone.adapter()
    trained = {name: t + 1e-3 * torch.randn_like(t) for name, t in start.items()}
    spec, rows, exact = spec_of(start), [], message_sizes(start, trained, "float32", 1.0)
    for wire, keep in CODINGS:
        found = message_sizes(start, trained, wire, keep)
        payload, _ = pack_update(start, trained, wire, keep, spec, {})
        cells = [cell for n, full in zip(found, exact, strict=True) for cell in (f"{n:,}", f"{n / full:.3f}")]
        times = (
            fastest(partial(pack_update, start, trained, wire, keep, spec, {})),
            fastest(partial(unpack_update, start, payload, wire, keep, spec)),
        )
        rows.append([size, wire + (f", top_k {keep:g}" if keep < 1 else ""), *cells, *(f"{t:.1f}" for t in times)])
    tensors = sum(t.nbytes for t in start.values())
    return rows, [size, f"{tensors:,}", *(f"{n / tensors:.3f}" for n in exact), f"{4 * backbone.total:,}"]


def run() -> list[Table]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found = [measure_size(size) for size in ("tiny", "base")]
    columns = ["model", "`--wire`", "down", "x", "up", "x", "code ms", "decode ms"]
    models = ["model", "adapter", "float32 down / adapter", "float32 up / adapter", "whole model"]
    return [
        Table("Bytes on the wire", columns, [row for rows, _ in found for row in rows]),
        Table("Against the model", models, [row for _, row in found]),
    ]


if __name__ == "__main__":
    main("wire", __doc__, run)
