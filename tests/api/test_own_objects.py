"""Objects in place of names: a run with them is that of the same things by name, and nothing stays registered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from PIL import Image

import fedumm
from fedumm.aggregation.base import Aggregator
from fedumm.aggregation.methods.fedavg import FedAvg
from fedumm.aggregation.methods.trimmed_mean import TrimmedMean
from fedumm.config import command_of
from fedumm.data.partition import Partitioner
from fedumm.plugins import load_plugins
from fedumm.registry import REGISTRIES
from support.commands import prepare, records, results
from support.toy import LORA_TOY

OPTIONS = {
    "num_clients": 3, "num_rounds": 2, "dirichlet_alpha": 0.5, "lr": 1e-2, "batch_size": 4, "grad_accum": 2,
    "threads": 1, "lora_r": 4, "max_train_samples": 60, "max_eval_samples": 12,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(monkeypatch)


@pytest.fixture(scope="module")
def toy() -> Any:
    """A backend, which is registered nowhere."""
    load_plugins([str(LORA_TOY)], again=True)
    from fedumm.backends import get_backend

    found = type(get_backend("lora_toy"))()
    for name in ("toy", "lora_toy"):
        for registry in REGISTRIES:
            registry.forget(name)
    return found


def registered() -> list[tuple[str, str]]:
    return [(registry.kind, name) for registry in REGISTRIES for name in registry.own()]


def questions(count: int, start: int = 0) -> Dataset:
    """Pictures in memory, two questions each."""
    pictures = [Image.fromarray(np.full((16, 16, 3), (start + n) * 3, np.uint8)) for n in range(count)]
    rows = [(n, picture, question) for n, picture in enumerate(pictures) for question in ("is it dark?", "what color?")]
    return Dataset.from_dict(
        {
            "image": [picture for _, picture, _ in rows],
            "question": [question for _, _, question in rows],
            "answer": [("yes" if n % 2 else "no") if question[0] == "i" else "gray" for n, _, question in rows],
            "image_id": [start + n for n, _, _ in rows],
        }
    )


class Half(FedAvg):
    """An aggregator that remembers how often it was asked."""

    def __init__(self, *options: Any) -> None:
        super().__init__(*options)
        self.rounds = 0

    def finish(self) -> Any:
        self.rounds += 1
        return super().finish()


class Turns(Partitioner):
    """One after the other."""

    def owners(self, train: Any, held: Any, num_clients: int, rng: Any) -> Any:
        return np.arange(len(train)) % num_clients, np.arange(len(held)) % num_clients


def test_a_run_of_objects_is_that_of_names(tmp_path: Path, toy: Any) -> None:
    before = registered()
    data = DatasetDict(train=questions(30), test=questions(6, start=30))
    mine = Half()
    run = fedumm.federate(
        name=tmp_path / "objects", dataset=data, model_backend=toy, aggregator=mine, partition=Turns, **OPTIONS
    )
    assert registered() == before
    assert mine.rounds == 2, "the very object"
    fedumm.register_backend("by_name", toy)
    fedumm.register_source("data_by_name", lambda request: fedumm_splits(data))
    fedumm.register_partitioner("turns_by_name", Turns)
    try:
        named = fedumm.federate(
            name=tmp_path / "names",
            dataset="data_by_name",
            model_backend="by_name",
            partition="turns_by_name",
            **OPTIONS,
        )
    finally:
        for registry in REGISTRIES:
            registry.forget("by_name")
            registry.forget("data_by_name")
            registry.forget("turns_by_name")
    assert {n: t for n, t in results(run.path).items() if n.endswith("tensors")} == {
        n: t for n, t in results(named.path).items() if n.endswith("tensors")
    }
    assert [r["test"] for r in records(run.path) if r["event"] == "round"] == list(named.rounds["test"])


def fedumm_splits(data: DatasetDict) -> Any:
    from fedumm.data import DataSplits

    return DataSplits(data["train"], data["test"])


def test_the_file_of_options_says_that_it_repeats_nothing(tmp_path: Path, toy: Any) -> None:
    run = fedumm.federate(
        name=tmp_path / "run", dataset=questions(20), model_backend=toy, aggregator=TrimmedMean,
        **OPTIONS | {"num_rounds": 1},
    )  # fmt: skip
    text = (run.path / "config.yaml").read_text(encoding="utf-8")
    assert command_of(text) == (
        "not possible from this file, since objects of a Python program were given as dataset, model_backend"
    )
    assert "aggregator: trimmed_mean" in text, "a shipped class has a name"
    with pytest.raises(fedumm.FedummError, match="python_LoraToyBackend"):
        fedumm.federate(**{**run_options(run.path), "name": tmp_path / "again"})


def run_options(path: Path) -> dict[str, Any]:
    from fedumm.config import read_yaml

    return {key: value for key, value in read_yaml(path / "config.yaml").items() if value not in ("", None, False)}


def test_options_of_an_aggregator_of_ones_own_are_keywords(tmp_path: Path, toy: Any) -> None:
    class Mine(TrimmedMean):
        """Cuts as it is told."""

    options = {**OPTIONS, "num_rounds": 1, "dataset": "shapes", "model_backend": toy}
    run = fedumm.federate(name=tmp_path / "class", aggregator=Mine, trim_ratio=0.34, **options)
    other = fedumm.federate(name=tmp_path / "object", aggregator=Mine(Mine.Options(trim_ratio=0.34)), **options)
    named = fedumm.federate(name=tmp_path / "name", aggregator="trimmed_mean", trim_ratio=0.34, **options)
    for path in (run.path, other.path):
        assert "trim_ratio: 0.34" in (path / "config.yaml").read_text()
        assert [r["test"] for r in records(path) if r["event"] == "round"] == list(named.rounds["test"])
    assert getattr(Mine, "name", "trimmed_mean") == "trimmed_mean", "the user's own class is left alone"


def test_a_split_of_objects() -> None:
    for mine in (Turns, Turns()):
        split = fedumm.partition(dataset=questions(20), partition=mine, num_clients=2)
        sizes = [len(share.train) for share in split.shares.values()]
        assert max(sizes) - min(sizes) <= 2
        assert split.method == "python_Turns"


def test_a_name_that_is_taken_is_left_alone() -> None:
    class Taken(Turns):
        """Another one."""

    fedumm.register_partitioner("python_Turns", Taken)
    try:
        split = fedumm.partition(dataset=questions(20), partition=Turns(), num_clients=2)
        assert split.method == "python_Turns_2"
        assert fedumm.partition(dataset=questions(20), partition="python_Turns", num_clients=2).method == "python_Turns"
    finally:
        for registry in REGISTRIES:
            registry.forget("python_Turns")


class NoAggregator:
    """Nothing."""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"simulator": True}, "simulator=True starts others"),
        ({"resume": "x"}, "a resumed run is given the same"),
        ({"aggregator": NoAggregator}, "must be a subclass of"),
        ({"aggregator": Aggregator}, r"Aggregator lacks the method\(s\) add, begin, finish"),
        ({"dataset": {"train": 1}}, "dataset= is a value of type dict"),
        ({"model_backend": object()}, "lacks the method"),
        ({"dataset": DatasetDict(a=questions(2), b=questions(2))}, "has no split train"),
    ],
)
def test_what_can_t_be_is_one_clear_error(
    wrong: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    before = registered()
    with pytest.raises(fedumm.FedummError, match=said):
        fedumm.federate(**{"dataset": questions(4), "model_backend": toy, "name": tmp_path / "run", **OPTIONS, **wrong})
    assert registered() == before


def test_the_baseline_takes_objects_too(tmp_path: Path, toy: Any) -> None:
    fedumm.train(
        output_dir=tmp_path / "central", dataset=questions(20), model_backend=toy, lr=0.01, threads=1, num_epochs=1
    )
    assert "not possible from this file" in (tmp_path / "central" / "config.yaml").read_text()
    assert json.loads((tmp_path / "central" / "data.json").read_text())["dataset"] == "python_Dataset"
