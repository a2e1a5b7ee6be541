#!/usr/bin/env python
"""Bytes per client and round, against the adapter's own size.

    python benchmarks/wire.py

The adapter's tensors in float32; the server's message to a host with one client and that host's answer, each as FLARE
serialises them (its headers not counted). The last column is what sending the model would take.
"""

from __future__ import annotations

import torch
from nvflare.fuel.utils import fobs

from common import Table, main, model_folder
from fedumm.adapters import encode
from fedumm.config import CentralConfig
from fedumm.federation.flare.carrier import pack
from fedumm.federation.messages import HostReply, RoundTask, Update
from fedumm.training.backbone import load_backbone
from fedumm.training.results import Evaluation


def measure_size(size: str) -> list[str]:
    config = CentralConfig(model_backend="blip_vqa", model_name_or_path=model_folder(size))
    backbone = load_backbone(config, torch.device("cpu"))
    adapter = backbone.adapter()
    tensors = sum(t.nbytes for t in adapter.values())
    content = encode(adapter)
    score = {"vqa": Evaluation(0.5, 100, {"yes/no": (0.5, 50), "color": (0.5, 25), "shape": (0.5, 25)})}
    down = RoundTask(1, True, content, {"host-1": ["site-1"]})
    up = HostReply([Update("site-1", 1, content, [], 1000, 16, 0.5, {"vqa": 0.5}, score, score, 1.0, 1.0)], score, 1.0)
    sizes = [len(fobs.dumps(pack(message))) for message in (down, up)]
    return [
        size, f"{tensors:,}", *(f"{n:,}" for n in sizes), *(f"{n / tensors:.3f}" for n in sizes),
        f"{4 * backbone.total:,}",
    ]  # fmt: skip


def run() -> list[Table]:
    columns = ["model", "adapter", "down", "up", "down / adapter", "up / adapter", "whole model"]
    return [Table("Bytes on the wire", columns, [measure_size(size) for size in ("tiny", "mid", "base")])]


if __name__ == "__main__":
    main("wire", __doc__, run)
