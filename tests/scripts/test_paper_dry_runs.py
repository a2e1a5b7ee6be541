"""Each file of the paper's settings, up to the first step: its model is built, and data are split among its clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import paper_configs
from fedumm.config import FederateConfig, read_yaml
from fedumm.federation.option_rules import check_rules
from fedumm.run_options import from_mapping
from fedumm.training.backbone import Backbone, load_backbone
from fedumm.training.data import load_splits, partition_for
from published_models import blip_vqa, on_meta
from random_weights import write_weights
from tiny_janus_model import build_model, build_processor

CPU = torch.device("cpu")
ROWS = 320
NAMES = sorted(file.name for file in paper_configs.FOLDER.glob("*.yaml"))


def _blip(folder: Path) -> Any:
    config, processor = blip_vqa(image=32, layers=2, width=32, heads=2, vocabulary=400)
    processor.save_pretrained(folder)
    return on_meta(config, "blip_vqa")


def _janus(folder: Path) -> Any:
    processor = build_processor()
    processor.save_pretrained(folder)
    with torch.device("meta"):
        model = build_model(processor)
    model.generation_config.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small random checkpoints, by backend."""
    found = {}
    for backend, build in (("blip_vqa", _blip), ("januspro", _janus)):
        found[backend] = folder = tmp_path_factory.mktemp(backend)
        model = build(folder)
        model.config.save_pretrained(folder)
        write_weights(model, folder, torch.float32, 0)
    return found


@pytest.fixture(scope="module")
def built(folders: dict[str, Path]) -> Callable[[FederateConfig], Backbone]:
    """The model of a file; files that differ in clients and alpha alone share one."""

    @cache
    def build(config: FederateConfig) -> Backbone:
        return load_backbone(config, CPU)

    return lambda config: build(replace(config, num_clients=1, dirichlet_alpha=1.0))


rows_of = cache(lambda config: load_splits(config).train)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_leads_to_its_model_and_to_its_clients(
    name: str, folders: dict[str, Path], built: Callable[[FederateConfig], Backbone]
) -> None:
    own = from_mapping(FederateConfig, read_yaml(paper_configs.FOLDER / name), name)
    config = replace(
        own, model_name_or_path=str(folders[own.model_backend]), dataset="shapes", max_train_samples=ROWS,
        max_eval_samples=8, gpu="cpu",
    )  # fmt: skip
    assert check_rules(config) is None
    backbone = built(config)
    factors = {key: value for key, value in backbone.adapter().items() if "lora_A" in key}
    assert {value.shape[0] for value in factors.values()} == {config.lora_r}
    rows = rows_of(replace(config, num_clients=1, dirichlet_alpha=1.0))
    clients = [f"site-{number + 1}" for number in range(config.num_clients)]
    partition, labels = partition_for(config, rows, clients)
    assert list(partition.shares) == clients
    shares = partition.shares.values()
    assert sorted(row for share in shares for row in (*share.train, *share.heldout)) == list(range(ROWS))
    assert all(len(share.train) for share in shares)
    assert len(set(labels)) > 1
    data = backbone.backend.build_dataset(
        rows.select(partition.shares[clients[0]].train), backbone.processor, config.max_q_len, config.max_a_len
    )
    with torch.no_grad():
        assert bool(torch.isfinite(backbone.train_step(backbone.backend.collate_fn([data[0]]))))
