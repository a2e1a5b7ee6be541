"""The learning rate over a training: the curves of transformers, the same over rounds as over epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from fedumm.cli.main import run
from fedumm.config import CentralConfig, FederateConfig
from fedumm.federation.runners.in_process import run_in_process
from fedumm.report.run_folder import RunFolder, create
from fedumm.training import trainer
from fedumm.training.schedule import Schedule, share_of_lr

STEPS = 40
THEIRS = {
    "constant": lambda optimizer, warm: get_constant_schedule_with_warmup(optimizer, warm),
    "linear": lambda optimizer, warm: get_linear_schedule_with_warmup(optimizer, warm, STEPS),
    "cosine": lambda optimizer, warm: get_cosine_schedule_with_warmup(optimizer, warm, STEPS),
}
CENTRAL: dict[str, Any] = {"model_backend": "blip_vqa", "lr": 0.25}


@pytest.mark.parametrize("warm", [0, 4, 20])
@pytest.mark.parametrize("kind", THEIRS)
@pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")
def test_the_curves_are_those_of_transformers(kind: str, warm: int) -> None:
    theirs = THEIRS[kind](torch.optim.SGD([torch.zeros(1)], lr=1.0), warm)
    for step in range(STEPS):
        assert share_of_lr(kind, warm / STEPS, step / STEPS) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        theirs.step()


def rates(config: CentralConfig, spans: list[tuple[tuple[float, float], int]]) -> list[float]:
    found, optimizer = [], torch.optim.SGD([torch.zeros(1)], lr=config.lr)
    for span, steps in spans:
        before = Schedule(optimizer, config, span, steps)
        for _ in range(steps):
            before()
            found.append(optimizer.param_groups[0]["lr"])
    return found


def test_rounds_and_epochs_follow_one_curve() -> None:
    config = CentralConfig(**CENTRAL, lr_schedule="cosine", lr_warmup=0.25)
    whole = rates(config, [((0.0, 1.0), 12)])
    assert rates(config, [((k / 3, (k + 1) / 3), 4) for k in range(3)]) == pytest.approx(whole)
    assert max(whole) <= 0.25
    assert whole == sorted(whole[:3]) + sorted(whole[3:], reverse=True)
    assert all(rate > 0 for rate in whole)


OPTIONS: dict[str, Any] = {
    "model_backend": "blip_vqa", "model_name_or_path": "tiny", "dataset": "easy_vqa", "num_clients": 2,
    "num_rounds": 2, "max_train_samples": 64, "max_eval_samples": 8, "batch_size": 4, "grad_accum": 2, "threads": 1,
    "feature_cache": "off", "in_process": True,
}  # fmt: skip


def federated(folder: Path, **more: Any) -> bytes:
    config = FederateConfig(**OPTIONS, **more)
    create(folder, config, "test").release()
    run_in_process(config, RunFolder(folder, config), lambda *_: None)
    return (folder / "adapter" / "last" / "adapter_model.safetensors").read_bytes()


def test_a_run_takes_its_part_of_the_curve_in_each_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[tuple[float, float], int]] = []

    class Noted(Schedule):
        def __init__(self, *args: Any) -> None:
            seen.append(args[2:])
            super().__init__(*args)

    monkeypatch.setattr(trainer, "Schedule", Noted)
    plain = federated(tmp_path / "plain")
    assert not seen
    assert federated(tmp_path / "linear", lr_schedule="linear") != plain
    spans = [span for span, _ in seen]
    assert spans == [(0.0, 0.5)] * 2 + [(0.5, 1.0)] * 2
    assert all(2 <= steps <= 5 for _, steps in seen)


def test_a_planned_run_gets_no_more_rounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    federated(folder, lr_schedule="cosine", name=str(folder))
    assert run("federate", ["--resume", str(folder), "--num_rounds", "4"], "fedumm federate") == 2
    assert "the learning rate was planned for all rounds" in capsys.readouterr().err
