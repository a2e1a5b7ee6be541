"""How many hosts and threads a run gets when nobody says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fedumm.config import FederateConfig
from fedumm.federation.assignment import host_count
from fedumm.training import threads
from fedumm.training.threads import fits_one_core, thread_count


@pytest.fixture(autouse=True)
def _four_cores_and_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 4)
    monkeypatch.setattr("fedumm.federation.assignment.cores", lambda: 4)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr("fedumm.federation.assignment._GPU_DRIVERS", ())


def config(**options: Any) -> FederateConfig:
    return FederateConfig(**{"model_backend": "blip_vqa", "num_clients": 8, **options})


@pytest.mark.parametrize(
    ("options", "hosts", "each"),
    [
        ({}, 1, 4),
        ({"model_name_or_path": "tiny"}, 4, 1),
        ({"model_name_or_path": "tiny", "num_clients": 3}, 3, 1),
        ({"model_name_or_path": "tiny", "in_process": True}, 1, 1),
        ({"model_name_or_path": "tiny", "hosts": 2, "threads": 2}, 2, 2),
        ({"model_name_or_path": "Salesforce/blip-vqa-base"}, 1, 4),
        ({"hosts": 2}, 2, 2),
        ({"model_backend": "toy"}, 1, 4),
        ({"gpu": "0,1,2"}, 3, 1),
        ({"gpu": "cpu", "model_name_or_path": "tiny"}, 4, 1),
    ],
)
def test_hosts_and_their_threads(options: dict[str, Any], hosts: int, each: int) -> None:
    assert host_count(config(**options)) == hosts
    assert thread_count(config(**options), hosts) == each


def test_one_host_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("fedumm.federation.assignment._GPU_DRIVERS", ("null",))
    assert host_count(config(model_name_or_path="tiny")) == 2
    assert host_count(config(gpu="cpu")) == 1
    assert host_count(config(device_map="auto")) == 1, "it has all GPUs"


@pytest.mark.parametrize(("size", "small"), [(50_000_000, True), (50_000_001, False)])
def test_a_small_model_is_one_of_small_files(tmp_path: Path, size: int, small: bool) -> None:
    with open(tmp_path / "model.safetensors", "wb") as file:
        file.truncate(size)
    assert fits_one_core(config(model_name_or_path=str(tmp_path))) is small
