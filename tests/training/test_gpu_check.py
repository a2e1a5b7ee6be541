"""``make gpu-check``: what it says without a GPU, and that it measures, tried on a CPU with the smallest models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gpu_check
from fedumm.checkpoints import resolve_checkpoint

CPU = torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line() -> None:
    command = [sys.executable, str(Path(gpu_check.__file__))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert (ended.stdout, ended.stderr) == ("", "There is no GPU with CUDA here, so nothing was checked.\n")


def test_failing_tests_end_it_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def failing(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(subprocess, "run", failing)
    monkeypatch.setattr(gpu_check, "main", None)
    assert gpu_check.check() == 1
    assert asked[0][1:5] == ["-m", "pytest", "-m", "gpu"]


def test_the_matrix_rate_is_of_two_operations_an_element() -> None:
    assert 1e7 < gpu_check.matrix_rate(CPU, torch.float32, side=64, repeats=5) < 1e13


def test_operations_are_those_of_the_layers() -> None:
    """A sample costs at least the products of its tokens with the frozen weights, forward and back to their input."""
    from fedumm.config import CentralConfig
    from fedumm.training.backbone import load_backbone
    from fedumm.training.data import load_splits

    config = CentralConfig(model_backend="januspro", model_name_or_path="tiny", dataset="shapes", max_train_samples=8,
                           max_eval_samples=2, lora_dropout=0.0, feature_cache="off")  # fmt: skip
    backbone = load_backbone(config, CPU)
    data = backbone.backend.build_dataset(load_splits(config).train, backbone.processor, 64, 16)
    layers = backbone.model.get_base_model().model.language_model.layers
    weights = sum(p.numel() for p in layers.parameters() if p.ndim == 2 and not p.requires_grad)
    counted = gpu_check.operations(backbone, data, config)
    least = 2 * 2 * weights * min(data.lengths)
    assert least < counted < 4 * least


@pytest.mark.slow
def test_it_measures() -> None:
    rates, steps = gpu_check.speed(CPU, "tiny", resolve_checkpoint("januspro", "tiny"), samples=16, side=64)
    assert [row[0] for row in rates.rows] == ["float32", "bfloat16"]
    assert [row[0] for row in steps.rows] == [
        "base, cached, merged", "base, cached, 8 at a time", "base, not cached", "base, cached, float32",
        "Janus, answers", "Janus, answers, checkpointed", "Janus, images",
    ], "all but four bits"  # fmt: skip
    assert all(len(row) == len(steps.columns) and float(row[2]) > 0 and float(row[3]) > 0 for row in steps.rows)
    table = gpu_check.federation(CPU, "tiny", 48, clients=(1, 2))
    assert [row[0] for row in table.rows] == ["1", "2"]
    assert all(len(row) == len(table.columns) and int(row[1]) <= 48 and float(row[4]) > 0 for row in table.rows)
