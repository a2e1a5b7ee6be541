"""``--tracker``: each hears the numbers of metrics.jsonl and no text; one that fails ends no run."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fedumm.cli.main import main
from fedumm.errors import FedummError
from fedumm.report.run_folder import RunFolder, read_records
from fedumm.step_losses import read_losses
from fedumm.trackers import TRACKERS, check_trackers, register_tracker
from fedumm.trackers.numbers import numbers_of
from fedumm.trackers.tracking import KNOWN, Tracking
from support.commands import flags

TOY = ["--model_backend", "blip_vqa", "--num_clients", "2", "--in_process"]
"""Of commands that do not get as far as their work."""


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str, **options: Any) -> int:
    """A run of two rounds with three clients on the toy backend."""
    monkeypatch.setattr(RunFolder, "_draw_partition", lambda self, labels: None)
    monkeypatch.setattr("fedumm.report.figures.save_rounds_figure", lambda *_: None)
    options = {"report_samples": "off", **options}
    return main(["federate", *flags(folder, num_rounds=2, **options), *more])


class Heard:
    """Keeps what it hears; each new one is in ``all``."""

    packages: ClassVar[tuple[str, ...]] = ()
    all: ClassVar[list[Heard]] = []
    fails: ClassVar[str] = ""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, Mapping[str, float]]] = []
        self.ended: list[bool] = []
        self.all.append(self)

    def start(self, name: str, folder: Path, options: Mapping[str, Any], known: str) -> str:
        self.given = (name, folder, dict(options), known)
        if self.fails == "start":
            raise ConnectionError("no\x1b such server")
        return known or "run-1"

    def log(self, axis: str, step: int, numbers: Mapping[str, float]) -> None:
        if self.fails == "log":
            raise ConnectionError("the network is gone")
        self.calls.append((axis, step, numbers))

    def finish(self, failed: bool) -> None:
        self.ended.append(failed)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Heard]]:
    monkeypatch.setattr(Heard, "all", [])
    monkeypatch.setattr(Heard, "fails", "")
    register_tracker("heard", Heard)
    yield Heard
    TRACKERS.forget("heard")


def test_a_run_is_told_as_its_records_tell_it(heard: type[Heard], tmp_path: Path, monkeypatch: Any) -> None:
    assert run(tmp_path / "run", monkeypatch, "--tracker", "heard") == 0
    (own,) = heard.all
    name, folder, options, known = own.given
    assert (name, folder, known, own.ended) == ("run", tmp_path / "run", "", [False])
    assert options["num_clients"] == 3
    assert not {"name", "plugin", "data_path", "gpu", "tracker"} & options.keys()
    records = list(read_records(tmp_path / "run"))
    expected = [
        ("round", r["round"] + (r["event"] == "final"), numbers_of(r))
        for r in records
        if r["event"] in ("client", "round", "final")
    ]
    assert [call for call in own.calls if call[0] == "round"] == expected
    rounds = [numbers for axis, _, numbers in own.calls if "round/train_loss" in numbers]
    assert [numbers["round/train_loss"] for numbers in rounds] == [
        r["train_loss"] for r in records if r["event"] == "round"
    ]
    steps = {
        (client, point) for client, losses in read_losses(folder).items() for own in losses.values() for point in own
    }
    assert {client for client, _ in steps} == {"site-1", "site-2", "site-3"}
    told = {
        (key.split("/")[1], (step, value))
        for axis, step, numbers in own.calls
        if axis == "step"
        for key, value in numbers.items()
    }
    assert told == steps
    assert not (tmp_path / "run" / "tensorboard").exists(), "it was not named"
    assert json.loads((tmp_path / "run" / KNOWN).read_text()) == {"heard": "run-1"}


def test_step_losses_average_to_the_loss_of_the_round(tmp_path: Path, monkeypatch: Any) -> None:
    more = ("--tracker", "none", "--batch_size", "1", "--grad_accum", "1")
    assert run(tmp_path / "run", monkeypatch, *more) == 0
    losses = {
        r["client"]: r["train_loss"]
        for r in read_records(tmp_path / "run")
        if r["event"] == "client" and r["round"] == 1
    }
    found = read_losses(tmp_path / "run")
    assert losses.keys() == found.keys()
    for client, parts in found.items():
        own = [loss for _, loss in parts[1]]
        assert sum(own) / len(own) == pytest.approx(losses[client], abs=1e-5)


def test_a_central_run_is_told_by_epoch(heard: type[Heard], tmp_path: Path, monkeypatch: Any) -> None:
    model = ["--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--dataset", "easy_vqa", "--gpu", "cpu"]
    few = ["--max_train_samples", "16", "--max_eval_samples", "6", "--lora_r", "2", "--num_epochs", "2"]
    more = ["--batch_size", "2", "--grad_accum", "1", "--merge_batches", "off", "--tracker", "heard"]
    assert main(["train", *model, *few, *more, "--output_dir", str(tmp_path / "run")]) == 0
    (own,) = heard.all
    epochs = [(step, numbers) for axis, step, numbers in own.calls if axis == "epoch"]
    recorded = [r for r in read_records(tmp_path / "run") if r["event"] == "epoch"]
    assert epochs == [(r["epoch"], numbers_of(r)) for r in recorded]
    steps = [step for axis, step, numbers in own.calls if axis == "step" and "steps/central/loss" in numbers]
    assert steps == list(range(1, 17))
    assert own.ended == [False]


def test_no_number_is_a_text_or_infinite() -> None:
    record = {"event": "client", "round": 2, "client": "a/b\x1b", "train_loss": float("nan"), "heldout": 0.5,
              "reason": "what is on it?", "num_samples": 4}  # fmt: skip
    assert numbers_of(record) == {"client/a_b\\x1b/heldout": 0.5, "client/a_b\\x1b/num_samples": 4.0}
    assert numbers_of({"event": "warning", "text": "x"}) == {}


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(
    heard: type[Heard], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    heard.fails = "log"
    assert run(tmp_path / "run", monkeypatch, "--tracker", "heard") == 0
    told = capsys.readouterr().out
    assert told.count("--tracker heard failed, and hears no more of this run: the network is gone") == 1


def test_one_that_cannot_start_ends_the_run_before_any_work(
    heard: type[Heard], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    heard.fails = "start"
    assert run(tmp_path / "run", monkeypatch, "--tracker", "heard") == 2
    told = capsys.readouterr()
    assert "--tracker heard can't start: ConnectionError: no\\x1b such server" in told.err
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_goes_on_in_the_tracker(heard: type[Heard], tmp_path: Path, monkeypatch: Any) -> None:
    for _ in range(2):
        tracking = Tracking(["heard"], tmp_path, print)
        tracking.start({})
        tracking.finish(failed=True)
    assert [own.given[3] for own in heard.all] == ["", "run-1"]
    (tmp_path / KNOWN).write_text('{"heard": "../../x", "mlflow": 3}')
    Tracking(["heard"], tmp_path, print).start({})
    assert heard.all[-1].given[3] == ""


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("mlfow", "Did you mean 'mlflow'?"),
        ("tensorboard,none", "must be none, or names"),
        ("", "must be none, or names"),
        ("a b", "must be none, or names"),
    ],
)
@pytest.mark.parametrize("command", [["federate", *TOY], ["train", *TOY[:2]]], ids=["federate", "train"])
def test_a_wrong_name_is_found_before_any_work(command: list[str], given: str, told: str, capsys: Any) -> None:
    assert main([*command, "--tracker", given]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mlflow", "wandb", "trackio"])
def test_a_missing_package_is_named_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    with pytest.raises(FedummError, match=rf"pip install 'fedumm\[{name}\]'"):
        check_trackers(["tensorboard", name])


def test_trackio_is_told_by_its_own_interface(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[Any] = []
    run = types.SimpleNamespace(log=calls.append, finish=lambda: calls.append("end"))
    stand_in: Any = types.ModuleType("trackio")
    stand_in.init = lambda **given: calls.append(given) or run
    monkeypatch.setitem(sys.modules, "trackio", stand_in)
    tracker = TRACKERS.get("trackio")()
    assert tracker.start("run", tmp_path, {"lr": 0.1}, "") == "begun"
    tracker.log("round", 2, {"round/heldout": 0.5})
    tracker.finish(False)
    assert calls[0] == {"project": "fedumm", "name": "run", "config": {"lr": 0.1}, "resume": "never", "embed": False}
    assert calls[1:] == [{"round": 2, "round/heldout": 0.5}, "end"]
