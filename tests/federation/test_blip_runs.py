"""BLIP federated in process: the cache, and how hosts share it, change no bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedumm.config import FederateConfig
from fedumm.federation.runners.in_process import run_in_process
from fedumm.report.run_folder import RunFolder, create, read_records

Records = list[dict[str, Any]]
BlipRun = Callable[..., tuple[bytes, Records]]


@pytest.fixture
def run_blip(tmp_path: Path) -> BlipRun:
    """Three clients, two rounds of ``tiny`` on easy-VQA; returns the adapters' bytes and the records."""

    def run(name: str, **options: Any) -> tuple[bytes, Records]:
        config = FederateConfig(
            **{
                "model_backend": "blip_vqa", "model_name_or_path": "tiny", "dataset": "easy_vqa", "num_clients": 3,
                "num_rounds": 2, "max_train_samples": 120, "max_eval_samples": 60, "lr": 1e-3, "in_process": True,
                "threads": 1, "feature_cache": "disk", "feature_cache_dir": str(tmp_path / "features"), **options,
            }
        )  # fmt: skip
        create(tmp_path / name, config, "test").release()
        run_in_process(config, RunFolder(tmp_path / name, config), lambda *_: None)
        adapter = tmp_path / name / "adapter"
        weights = b"".join((adapter / which / "adapter_model.safetensors").read_bytes() for which in ("best", "last"))
        return weights, list(read_records(tmp_path / name))

    return run


def computed(records: Records) -> int:
    return int(records[0]["features"][0]["computed"])


def heldout(records: Records) -> list[Any]:
    return [(r["heldout"], r["heldout_after"], r["train_loss"]) for r in records if r["event"] == "client"]


def test_an_empty_a_full_and_a_shared_cache_give_the_same_bits(run_blip: BlipRun, tmp_path: Path) -> None:
    bits, records = run_blip("empty")
    scores = heldout(records)
    images = records[0]["features"][0]["images"]
    assert computed(records) == images > 10
    runs = {
        "full": ({}, 0),
        "in memory": ({"feature_cache": "memory"}, images),
        "two hosts, in memory": ({"hosts": 2, "feature_cache": "memory"}, None),
        "two hosts": ({"hosts": 2, "feature_cache_dir": str(tmp_path / "other")}, images),
        "two hosts, full": ({"hosts": 2}, 0),
    }
    for name, (options, expected) in runs.items():
        again, records = run_blip(name, **options)
        assert again == bits, name
        assert computed(records) == expected or expected is None, name
        assert heldout(records) == scores, name


@pytest.mark.slow
def test_without_a_cache_scores_stay_within_half_a_point(run_blip: BlipRun) -> None:
    (_, cached), (_, plain) = run_blip("cached"), run_blip("plain", feature_cache="off")
    assert plain[0]["features"] == []
    for ours, theirs in zip(cached, plain, strict=True):
        for key in ("heldout", "test", "heldout_after"):
            if isinstance(ours.get(key), float):
                assert ours[key] == pytest.approx(theirs[key], abs=0.005)
        if ours["event"] == "client":
            assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-4)
