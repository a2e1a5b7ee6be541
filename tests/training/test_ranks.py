"""A client of a low rank on a host whose model has a higher one trains as on a model of its own rank."""

from __future__ import annotations

import torch

from fedumm.adapters import AdapterState
from fedumm.adapters.factors import at_rank, padded
from fedumm.config import FederateConfig
from fedumm.training.backbone import load_backbone
from fedumm.training.data import load_splits
from fedumm.training.trainer import train_epochs


def trained(rank: int, start: AdapterState | None) -> tuple[AdapterState, AdapterState]:
    """What a client of rank 4 starts from and comes to, by a model of rank ``rank``."""
    config = FederateConfig(
        model_backend="blip_vqa", model_name_or_path="tiny", dataset="easy_vqa", max_train_samples=24,
        max_eval_samples=4, batch_size=8, grad_accum=1, lr=1e-2, lora_r=rank, lora_alpha=2 * rank, threads=1,
        feature_cache="off",
    )  # fmt: skip
    backbone = load_backbone(config, torch.device("cpu"))
    start = start or at_rank(backbone.adapter(), 4)
    backbone.put_at_rank(start, 2.0)
    rows = load_splits(config).train
    data = backbone.backend.build_dataset(rows, backbone.processor, config.max_q_len, config.max_a_len)
    return start, train_epochs(backbone, data, config, 2, 1, lambda *_: None).adapter


def test_rank_4_within_8_is_rank_4() -> None:
    start, own = trained(4, None)
    _, within = trained(8, start)
    spec = {name: (tuple(t.shape), "float32") for name, t in within.items()}
    assert all(torch.equal(within[name], t) for name, t in padded(at_rank(within, 4), spec).items()), "zeros stay zeros"
    for name, tensor in at_rank(within, 4).items():
        assert not torch.equal(tensor, start[name])
        # AdamW makes full steps of the smallest gradients, so rounding shows where they are nearly 0.
        moved = (own[name] - start[name]).norm()
        assert (tensor - own[name]).norm() < 1e-3 * moved, name
