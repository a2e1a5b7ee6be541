"""Listeners hear of a run what its folder is written from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from fedumm.adapters.folder import read_folder
from fedumm.errors import FedummError
from fedumm.federation.runners import launch
from fedumm.federation.runners.in_process import run_in_process
from fedumm.federation.server.server import Server
from fedumm.plugins import load_plugins
from fedumm.report.run_folder import create, read_records
from fedumm.run_events import AdapterEvent, Listeners, PartitionEvent, Record, RunListener
from support.toy import Driven, PlainFolder, toy_config


class Notebook(RunListener):
    """Writes down all that it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.adapters: dict[tuple[str, int], dict[str, torch.Tensor]] = {}

    def on_partition(self, event: PartitionEvent) -> None:
        self.heard.append(("partition", event))

    def on_setup(self, record: Record) -> None:
        self.heard.append(("setup", record))

    def on_client(self, record: Record) -> None:
        self.heard.append(("client", record))

    def on_round(self, record: Record) -> None:
        self.heard.append(("round", record))

    def on_end(self, record: Record) -> None:
        self.heard.append(("summary", record))

    def on_adapter(self, event: AdapterEvent) -> None:
        self.heard.append(("adapter", event))
        self.adapters[event.which, event.version] = {name: t.clone() for name, t in event.state.items()}


def finite(value: Any) -> Any:
    """As ``metrics.jsonl`` has it."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def test_a_listener_hears_what_the_folder_writes(tmp_path: Path) -> None:
    config, notebook = toy_config(num_rounds=2), Notebook()
    create(tmp_path / "run", config, "test").release()
    run_in_process(config, PlainFolder(tmp_path / "run", config), lambda *_: None, [notebook])
    records = [r for r in read_records(tmp_path / "run") if r["event"] in ("setup", "client", "round", "summary")]
    heard = [(kind, finite(what)) for kind, what in notebook.heard if isinstance(what, dict)]
    assert heard == [(record["event"], record) for record in records]
    kinds = [kind for kind, _ in notebook.heard]
    assert kinds[:3] == ["partition", "setup", "client"]
    assert kinds[-2:] == ["adapter", "summary"]
    (partition,) = [event for kind, event in notebook.heard if kind == "partition"]
    assert sum(own["train"] + own["heldout"] for own in partition.clients.values()) == 160
    for which, version in (("best", records[-1]["best"]["round"]), ("last", 2)):
        saved = read_folder(tmp_path / "run" / "adapter" / which)[0]
        assert all(torch.equal(saved[name], t) for name, t in notebook.adapters[which, version].items())


def test_a_run_without_listeners_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder only listens: nothing of the run depends on it."""
    hosts, config = {"host-1": ["site-1", "site-2", "site-3"]}, toy_config(num_rounds=2)
    usual = Driven(tmp_path / "usual", hosts, config)
    real = Server.__init__

    def unheard(self: Server, *args: Any) -> None:
        real(self, *args[:3])

    monkeypatch.setattr(Server, "__init__", unheard)
    alone = Driven(tmp_path / "alone", hosts, config)
    assert not (tmp_path / "alone" / "metrics.jsonl").exists()
    assert all(torch.equal(alone.server.adapter[name], t) for name, t in usual.server.adapter.items())
    assert alone.server.scoreboard.summary() == usual.server.scoreboard.summary()


def test_listeners_are_told_in_their_order() -> None:
    told: list[str] = []

    class Named(RunListener):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_record(self, record: Record) -> None:
            told.append(f"{self.name} {record['event']}")

    Listeners([Named("a"), Named("b")]).on_record({"event": "note"})
    assert told == ["a note", "b note"]


class Failing(RunListener):
    """Fails in one of its methods."""

    def __init__(self, method: str, error: BaseException) -> None:
        setattr(self, method, self._fail)
        self._error = error

    def _fail(self, what: Any) -> None:
        raise self._error


@pytest.mark.parametrize("method", ["on_partition", "on_setup", "on_client", "on_round", "on_adapter", "on_end"])
@pytest.mark.parametrize("error", [ValueError("no such key"), OSError("disk full")], ids=repr)
def test_a_listeners_failure_is_told_as_its_own(tmp_path: Path, method: str, error: Exception) -> None:
    config = toy_config(num_rounds=1, max_train_samples=60, max_eval_samples=6)
    create(tmp_path / "run", config, "test").release()
    with pytest.raises(FedummError) as caught:
        run_in_process(config, PlainFolder(tmp_path / "run", config), lambda *_: None, [Failing(method, error)])
    assert str(caught.value) == f"The listener Failing failed: {type(error).__name__}: {error}"


@pytest.mark.parametrize("error", [FedummError("enough"), KeyboardInterrupt()], ids=repr)
def test_a_listener_may_end_a_run(tmp_path: Path, error: BaseException) -> None:
    config = toy_config(num_rounds=1, max_train_samples=60, max_eval_samples=6)
    create(tmp_path / "run", config, "test").release()
    with pytest.raises(type(error)) as caught:
        run_in_process(config, PlainFolder(tmp_path / "run", config), lambda *_: None, [Failing("on_round", error)])
    assert caught.value is error


def test_a_launched_run_has_listeners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook, config = Notebook(), toy_config(num_rounds=1, in_process=True, name="run")
    load_plugins(config.plugins)
    assert launch.run(config, "test", [notebook]) == 0
    assert [kind for kind, _ in notebook.heard][-1] == "summary"
    with pytest.raises(FedummError, match="Listeners need in_process"):
        launch.run(toy_config(in_process=False, simulator=True, name="other"), "test", [notebook])
    assert not (tmp_path / "runs" / "other").exists()
