"""Batches that a thread makes ahead: the same ones, in the same order, with nothing else changed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from fedumm.config import CentralConfig
from fedumm.data import DataRequest, load_data
from fedumm.training import loading
from fedumm.training.backbone import load_backbone
from fedumm.training.feature_cache import cache_features
from fedumm.training.loading import loader
from fedumm.training.prefetch import PrefetchLoader
from fedumm.training.trainer import train_epochs

CPU = torch.device("cpu")
PLAN = [[0, 1, 2], [9, 3], [4], [8, 5]]


class Rows:
    """Numbers; ``made`` are those that were asked for so far."""

    def __init__(self, bad: int = -1) -> None:
        self.bad, self.made = bad, list[int]()
        self.asked = threading.Condition()

    def __len__(self) -> int:
        return 10

    def __getitem__(self, row: int) -> torch.Tensor:
        with self.asked:
            self.made.append(row)
            self.asked.notify_all()
        if row == self.bad:
            raise OSError("the disk is gone")
        return torch.full((500,), float(row))

    def comes_to(self, count: int, seconds: float = 30.0) -> bool:
        """Whether so many are asked for before long."""
        with self.asked:
            return self.asked.wait_for(lambda: len(self.made) >= count, timeout=seconds)


def ahead(rows: Rows) -> PrefetchLoader:
    return PrefetchLoader(rows, device=CPU, batch_sampler=PLAN, collate_fn=torch.stack)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "batches"]


def test_batches_and_random_numbers_are_those_of_a_plain_loader() -> None:
    drawn = []
    loaders: list[Any] = [ahead(Rows()), DataLoader(Rows(), batch_sampler=PLAN, collate_fn=torch.stack)]  # type: ignore[arg-type]
    for each in loaders:
        torch.manual_seed(5)
        drawn.append([(batch, torch.rand(3)) for _ in range(2) for batch in each])
    assert len(drawn[0]) == 2 * len(PLAN) == 2 * len(loaders[0])
    for (one, number), (other, same) in zip(*drawn, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(number, same)
    assert not threads()


def test_one_batch_is_made_ahead_and_no_more() -> None:
    rows = Rows()
    batches = iter(ahead(rows))
    next(batches)
    assert rows.comes_to(5)
    assert not rows.comes_to(6, 0.3)
    assert rows.made == [0, 1, 2, 9, 3]
    next(batches)
    assert rows.comes_to(6)
    assert not rows.comes_to(7, 0.3)
    assert rows.made == [0, 1, 2, 9, 3, 4]


def test_an_error_comes_where_its_batch_would() -> None:
    batches = iter(ahead(Rows(bad=4)))
    assert [len(next(batches)), len(next(batches))] == [3, 2]
    with pytest.raises(OSError, match="the disk is gone") as caught:
        next(batches)
    assert "__getitem__" in [entry.name for entry in caught.traceback], "where it happened"
    assert not threads()


def test_whoever_stops_early_leaves_no_thread() -> None:
    for count in (1, 2):
        batches: Iterator[Any] = iter(ahead(Rows()))
        for _ in range(count):
            next(batches)
        del batches
        assert not threads()
    iter(ahead(Rows()))
    assert not threads(), "nothing starts before a batch is asked for"


PROGRAM = """
import signal, sys, time, torch
from fedumm.training.prefetch import PrefetchLoader

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell starts in the background

class Rows:
    def __getitem__(self, row):
        if row == 3:
            print("reading", flush=True)
            time.sleep(1)
        return torch.zeros(2)

PLAN = [[1], [2], [3], [4]]
batches = iter(PrefetchLoader(Rows(), device=torch.device("cpu"), batch_sampler=PLAN, collate_fn=torch.stack))
next(batches)
next(batches)
if sys.argv[1] == "stopped":
    next(batches)
    print("not stopped")
sys.modules["kept"] = batches  # never closed
"""


@pytest.mark.parametrize("how", ["stopped", "ends"])
def test_a_program_that_is_stopped_or_ends_does_not_hang(how: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), how]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        if how == "stopped":
            process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (out, process.returncode) == ("", -signal.SIGINT if how == "stopped" else 0), errors


def test_training_with_batches_made_ahead_gives_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = CentralConfig(
        model_backend="blip_vqa", model_name_or_path="tiny", feature_cache="disk", feature_cache_dir=str(tmp_path)
    )
    columns = ("image", "question", "multiple_choice_answer", "answers")
    rows = load_data("shapes", DataRequest(max_train_samples=48, max_eval_samples=4, columns=columns)).train
    adapters = []
    for reads_ahead in (False, True):
        monkeypatch.setattr(loading, "_reads_ahead", lambda *_, reads_ahead=reads_ahead: reads_ahead)
        backbone = load_backbone(options, CPU)
        dataset = backbone.backend.build_dataset(rows, backbone.processor, 64, 16)
        cache_features(backbone, [dataset], options, lambda *_: None)
        assert isinstance(loader(backbone, dataset, [], options), PrefetchLoader) == reads_ahead
        losses = train_epochs(backbone, dataset, replace(options, batch_size=4, grad_accum=2), 2, 0).losses
        adapters.append((losses, backbone.adapter()))
    (losses, adapter), (same, other) = adapters
    assert losses == same
    assert all(torch.equal(adapter[name], other[name]) for name in adapter)


def test_batches_are_made_ahead_for_a_gpu_where_images_come_as_features() -> None:
    class Cached:
        cached = True

    options = CentralConfig(model_backend="blip_vqa", model_name_or_path="tiny")
    backbone = load_backbone(options, CPU)
    assert not loading._reads_ahead(backbone, Cached())
    backbone.device = torch.device("meta")
    assert loading._reads_ahead(backbone, Cached())
    Cached.cached = False
    assert not loading._reads_ahead(backbone, Cached())
