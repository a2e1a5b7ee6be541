"""Runs of many clients and rounds: what they take on disk and in memory."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from fedumm.report.figures import for_rounds_figure, rounds_table, scored_on
from fedumm.report.run_folder import METRICS, ROUNDS, RunFolder, read_records
from support.commands import federate, flags, prepare
from support.toy import toy_config

CLIENTS, ROUND_COUNT = 300, 40


@pytest.mark.parametrize(
    ("options", "adapters"),
    [
        ({}, 0),
        ({"aggregator": "fedsa_lora"}, 1),
        ({"scaffold": True}, 2),
        ({"wire": "int8"}, 2),
        ({"scaffold": True, "wire": "int8"}, 4),
    ],
    ids=str,
)
def test_what_clients_keep_is_as_many_adapters_as_documented(
    options: dict[str, Any], adapters: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``docs/aggregation.md``, State at the client: two files, whatever the number of rounds."""
    prepare(monkeypatch)
    assert federate(*flags(tmp_path / "run", **options)) == 0
    adapter = (tmp_path / "run" / "adapter" / "last" / "adapter_model.safetensors").stat().st_size
    kept = list((tmp_path / "run" / "clients" / "site-1").glob("*.safetensors"))
    assert len(kept) == (2 if adapters else 0)
    assert sum(path.stat().st_size for path in kept) == pytest.approx(adapters * adapter, rel=0.25)


@pytest.mark.parametrize("clients", [3, 6])
def test_flora_keeps_each_rounds_adapters(clients: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``docs/aggregation.md``, Resume: an adapter for each client and round."""
    prepare(monkeypatch)
    assert federate(*flags(tmp_path / "run", aggregator="flora", num_clients=clients, max_train_samples=90)) == 0
    assert federate(*flags(tmp_path / "plain", num_rounds=1)) == 0
    adapter = (tmp_path / "plain" / "adapter" / "last" / "adapter_model.safetensors").stat().st_size
    changes = list((tmp_path / "run" / "state").glob("change-*"))
    assert len(changes) == 3
    for path in changes:
        assert path.stat().st_size == pytest.approx(clients * adapter, rel=0.25)


def score(value: float) -> dict[str, Any]:
    return {"vqa": {"score": value, "count": 9, "parts": {}}}


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records as a run of many clients writes them."""
    folder = tmp_path_factory.mktemp("long")
    names = [f"site-{n}" for n in range(CLIENTS)]
    with open(folder / METRICS, "w") as file:
        for number in range(1, ROUND_COUNT + 1):
            for name in names:
                own = {"event": "client", "round": number, "client": name, "heldout_tasks": score(0.5)}
                file.write(json.dumps(own | {"rejected": None, "reason": None, "note": "x" * 500}) + "\n")
            whole = {"round": number, "roster": CLIENTS, "heldout_clients": dict.fromkeys(names, 0.5)}
            tasks = {"heldout_tasks": score(number / 99), "test_tasks": {}, "train_losses": {"vqa": 1.0}}
            file.write(json.dumps({"event": "round", **whole, **tasks}) + "\n")
    return folder


def test_the_figure_of_rounds_is_the_same_without_the_clients_records(long_run: Path) -> None:
    everything = list(read_records(long_run))
    kept = [for_rounds_figure(record) for record in read_records(long_run, clients=False)]
    assert len(kept) == ROUND_COUNT < len(everything)
    assert rounds_table(kept) == rounds_table(everything)
    assert scored_on(kept) == scored_on(everything)
    partly = [r | {"heldout_clients": dict.fromkeys(list(r["heldout_clients"])[:7], 1.0)} for r in everything[-1:]]
    assert scored_on([for_rounds_figure(r) for r in partly]) == scored_on(partly)


def test_the_figure_of_rounds_does_not_hold_the_clients_records(
    long_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file of some megabytes it takes a small part, however many clients there are."""
    monkeypatch.setattr("fedumm.report.figures.save_rounds_figure", lambda records, path, title: path.touch())
    tracemalloc.start()
    try:
        RunFolder(long_run, toy_config()).finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (long_run / ROUNDS).exists()
    assert peak < (long_run / METRICS).stat().st_size / 8
