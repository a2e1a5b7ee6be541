"""What a run's options make of the cache, with the shipped model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedumm.config import CentralConfig
from fedumm.data import DataRequest, load_data
from fedumm.features import on_disk, weigh
from fedumm.features.holdings import holdings
from fedumm.features.report import CacheReport
from fedumm.features.rights import Rights
from fedumm.features.weigh import Speed
from fedumm.training.backbone import Backbone, load_backbone
from fedumm.training.feature_cache import cache_features

COLUMNS = ("image", "question", "multiple_choice_answer", "answers")


@pytest.fixture(scope="module")
def rows() -> Any:
    """Eight questions on two images."""
    return load_data("shapes", DataRequest(max_train_samples=8, max_eval_samples=4, columns=COLUMNS)).train


@pytest.fixture
def config(tmp_path: Path) -> CentralConfig:
    return CentralConfig(model_backend="blip_vqa", model_name_or_path="tiny", feature_cache_dir=str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    options = CentralConfig(model_backend="blip_vqa", model_name_or_path="tiny")
    return load_backbone(options, torch.device("cpu"))


def fill(backbone: Backbone, rows: Any, config: CentralConfig, **options: Any) -> tuple[CacheReport, torch.Tensor]:
    data = backbone.backend.build_dataset(rows, backbone.processor, 64, 16)
    (report,) = cache_features(backbone, [data], config, lambda *_: None, **options)
    return report, data[0]["image_embeds"]


def test_a_person_sees_which_model_the_features_are_of(backbone: Backbone, rows: Any, config: CentralConfig) -> None:
    report, _ = fill(backbone, rows, config)
    (found,), left = holdings(Path(config.feature_cache_dir), Rights())
    assert not left
    assert (found.model, found.stage, found.dtype) == ("tiny", "vision features", "float32")
    assert (found.images, found.in_use, found.readable) == (report.images, True, True)
    assert '"image_size"' in found.settings


def test_the_ceiling_is_in_gigabytes(backbone: Backbone, rows: Any, config: CentralConfig) -> None:
    report, _ = fill(backbone, rows, config)
    assert (report.kept, report.note) == ("disk", "")
    other = replace(config, feature_cache_dir=config.feature_cache_dir + "2")
    assert fill(backbone, rows, replace(other, feature_cache_disk_gb=1.01 * report.bytes / 1e9))[0].kept == "disk"
    other = replace(config, feature_cache_dir=config.feature_cache_dir + "3")
    less = fill(backbone, rows, replace(other, feature_cache_disk_gb=0.99 * report.bytes / 1e9))[0]
    assert less.kept == "memory"
    assert "--feature_cache_disk_gb" in less.note


def test_how_often_features_are_needed_is_weighed(
    backbone: Backbone, rows: Any, config: CentralConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_disk, "WEIGHED", 0)
    monkeypatch.setattr(weigh, "measure", lambda *_: Speed(1.0, 1.0, 0.5))
    images = len(set(rows["image_id"][:]))
    needed = 8 / images * 3
    report, _ = fill(backbone, rows, config, passes=[3])
    assert report.kept == ("disk" if 2 + needed / 2 < needed else "memory")
    assert f"each about {needed:.1f} times" in report.note


def test_features_are_of_the_arithmetics_type(backbone: Backbone, rows: Any, config: CentralConfig) -> None:
    """And of another folder: in bfloat16 the tower computes other features."""
    exact, plain = fill(backbone, rows, config)
    assert plain.dtype == torch.float32
    short = replace(backbone, dtype=torch.bfloat16)
    for kind, dtype in (("auto", torch.bfloat16), ("float32", torch.float32), ("int8", torch.float32)):
        report, features = fill(short, rows, replace(config, feature_dtype=kind))
        assert report.computed == exact.images
        assert features.dtype == dtype
        assert 0 < (features.float() - plain).norm() / plain.norm() < 0.02
    assert len(holdings(Path(config.feature_cache_dir), Rights())[0]) == 4
