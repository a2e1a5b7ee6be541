"""``--round_minutes``: clients that run out of time, from the option to the screen; what the server believes."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from fedumm.adapters.folder import read_folder
from fedumm.cli.federate import check_rules_of
from fedumm.compression.packing import unpack
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.client.client import Client
from fedumm.federation.client.host import Host
from fedumm.federation.protocol.messages import ClientUpdate, RoundTask
from fedumm.report.console import RunConsole
from fedumm.report.run_folder import read_records
from fedumm.training.gradient_correction import ControlVariates
from support.clock import a_second_a_step
from support.commands import federate, flags, go_on, prepare
from support.toy import Driven, Run, lora_options, toy_config

MOST = 4
"""Steps that a client gets done in :data:`MINUTES`."""

MINUTES = MOST / 60
TWO = {"host-1": ["site-1", "site-2"]}


def driven(folder: Path, **options: Any) -> Driven:
    """Two clients, of which site-2 has half as much to do."""
    defaults = {"num_clients": 2, "dirichlet_alpha": 0.1, "seed": 0, "round_minutes": MINUTES}
    return Driven(folder, TWO, toy_config(**lora_options(**{**defaults, **options})))


def events(folder: Path, event: str) -> list[dict[str, Any]]:
    return [r for r in read_records(folder) if r["event"] == event]


def steps_of(run: Driven) -> list[dict[str, int]]:
    return [{client: update.steps for client, update in updates.items()} for task, updates in run.rounds if task.train]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_folder(folder / "adapter" / "last")[0]


def same(first: Path, second: Path) -> bool:
    one, other = weights(first), weights(second)
    return all(torch.equal(t, other[name]) for name, t in one.items())


@pytest.mark.parametrize(
    "more",
    [{}, {"lr_schedule": "linear"}, {"scaffold": True, "prox_mu": 0.1}, {"dp": "local", "dp_noise_multiplier": 1.0}],
)
def test_who_is_through_in_time_has_the_bits_of_a_run_without_the_option(more: dict[str, Any], tmp_path: Path) -> None:
    runs = [driven(tmp_path / str(n), **more, round_minutes=minutes) for n, minutes in enumerate((0.0, 60.0))]
    assert steps_of(runs[0]) == steps_of(runs[1])
    if "dp" not in more:  # whose noise is the system's
        assert same(runs[0].folder, runs[1].folder)
    assert not events(runs[1].folder, "cut")


def test_a_cut_client_counts_and_says_how_far_it_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = driven(tmp_path / "whole", round_minutes=0.0)
    planned = steps_of(whole)[0]
    assert planned["site-2"] <= MOST < planned["site-1"], planned
    a_second_a_step(monkeypatch)
    cut = driven(tmp_path / "cut")
    assert steps_of(cut) == [{"site-1": MOST, "site-2": planned["site-2"]}] * 2
    assert not [r for r in events(cut.folder, "client") if r["rejected"]]
    told = [(r["round"], r["client"], r["steps"], r["planned"]) for r in events(cut.folder, "cut")]
    assert told == [(n, "site-1", MOST, planned["site-1"]) for n in (1, 2)]
    assert not same(whole.folder, cut.folder)


@pytest.mark.parametrize("weigh", ["samples", "equal", "steps"])
def test_the_global_adapter_weighs_what_the_option_says(
    weigh: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By ``steps`` those that were done, by ``samples`` all rows of the client, as without a limit."""
    a_second_a_step(monkeypatch)
    run = driven(tmp_path / "run", client_weights=weigh, num_rounds=1)
    (_, updates), spec = run.rounds[0], run.server.aggregation.spec
    by = {"samples": lambda u: u.num_samples, "equal": lambda u: 1, "steps": lambda u: u.steps}[weigh]
    assert len({by(u) for u in updates.values()}) == (1 if weigh == "equal" else 2)
    total = sum(by(u) for u in updates.values())
    states = {client: unpack(u.adapter, spec) for client, u in updates.items()}
    for name, tensor in weights(run.folder).items():
        mean = sum(by(updates[c]) / total * states[c][name].double() for c in states if name in states[c])
        torch.testing.assert_close(tensor.double(), mean, rtol=1e-5, atol=1e-7)


def test_scaffold_divides_by_the_steps_that_were_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it then is, a mean over its hook's calls, is compared with the paper's option II elsewhere."""
    a_second_a_step(monkeypatch)
    seen: list[int] = []
    real = ControlVariates.mean_gradient

    def mean(self: ControlVariates) -> Any:
        seen.append(self._steps)
        return real(self)

    monkeypatch.setattr(ControlVariates, "mean_gradient", mean)
    run = driven(tmp_path / "run", scaffold=True)
    assert seen == [steps[client] for steps in steps_of(run) for client in ("site-1", "site-2")]
    assert not [r for r in events(run.folder, "client") if r["rejected"]]


@pytest.mark.parametrize(
    ("steps", "minutes", "rejected"),
    [(1, 1.0, None), (0, 1.0, "claims"), (-1, 1.0, "claims"), (10**9, 1.0, "claims"), (1, 0.0, "claims")],
)
def test_from_one_step_to_all_is_believed_and_only_with_the_option(
    steps: int, minutes: float, rejected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Client._train

    def train(client: Client, *args: Any) -> ClientUpdate:
        update = real(client, *args)
        return replace(update, steps=steps) if client.name == "site-1" else update

    monkeypatch.setattr(Client, "_train", train)
    run = driven(tmp_path / "run", round_minutes=minutes, num_rounds=1)
    assert {r["client"]: r["rejected"] for r in events(run.folder, "client")} == {"site-1": rejected, "site-2": None}


def test_with_local_privacy_nobody_hears_how_many_steps_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = steps_of(driven(tmp_path / "whole", round_minutes=0.0))
    a_second_a_step(monkeypatch)
    run = driven(tmp_path / "cut", dp="local", dp_noise_multiplier=1.0)
    assert steps_of(run) == planned
    assert not events(run.folder, "cut")
    # In a simulation all hosts are the user's own; a real site keeps the line in its own log.
    texts = [r["text"] for r in events(run.folder, "note")]
    assert texts == [f"round {n}: site-1 ran out of its --round_minutes after {MOST} of 6 steps" for n in (1, 2)]


def test_with_central_privacy_an_update_is_clipped_whatever_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_second_a_step(monkeypatch)
    run = driven(tmp_path / "run", dp="central", dp_noise_multiplier=1.0, dp_clip=0.5)
    assert [r["clients"] for r in events(run.folder, "round")] == [2, 2]
    assert [r["client"] for r in events(run.folder, "cut")] == ["site-1", "site-1"]


def test_the_screen_says_it_at_the_start_of_every_process_and_of_each_cut_client(
    run_toy: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_second_a_step(monkeypatch)
    _, records = run_toy(round_minutes=MINUTES, client_weights="steps")
    file = io.StringIO()
    console = RunConsole(Console(file=file, width=200))
    for record in records:
        if record["event"] != "summary":
            console.show(record)
    lines = file.getvalue().splitlines()
    (start,) = [n for n, line in enumerate(lines) if "can't be repeated bit for bit" in line]
    assert f"{MINUTES:g} min a round" in lines[start]
    assert "--client_weights steps" in lines[start]
    cut = [r for r in records if r["event"] == "cut"]
    told = [n for n, line in enumerate(lines) if " ran out of its --round_minutes after 4 of " in line]
    assert len(told) == len(cut) > 0
    assert start < min(told)


def test_a_resumed_run_says_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(monkeypatch)
    handle = Host.handle

    def stopping(host: Host, message: Any) -> Any:
        if isinstance(message, RoundTask) and message.round == 2:
            raise KeyboardInterrupt
        return handle(host, message)

    with monkeypatch.context() as patch:
        patch.setattr(Host, "handle", stopping)
        assert federate(*flags(tmp_path / "run", round_minutes=60)) == 130
    assert go_on(tmp_path / "run") == 0
    assert len(events(tmp_path / "run", "round_minutes")) == 2


def test_sites_are_given_more_time_to_answer_than_to_train() -> None:
    with pytest.raises(FedummError, match="--round_timeout"):
        FederateConfig(model_backend="toy", round_minutes=2, round_timeout=120)
    FederateConfig(model_backend="toy", round_minutes=2, round_timeout=121)
    FederateConfig(model_backend="toy", round_minutes=2)


@pytest.mark.parametrize(
    ("options", "good"),
    [
        ({"round_minutes": 4}, True),
        ({"round_minutes": 30}, False),
        ({"round_minutes": 30, "round_timeout": 3600}, True),
        ({"round_minutes": 30, "export_dir": "", "in_process": True}, True),
    ],
)
def test_a_job_whose_sites_train_for_long_says_how_long_it_waits(options: dict[str, Any], good: bool) -> None:
    """By what quick sites took, the others might be left out in the midst of their time."""
    config = FederateConfig(model_backend="blip_vqa", **{"export_dir": "jobs", **options})
    if good:
        check_rules_of(config)
        return
    with pytest.raises(FedummError, match="--round_timeout"):
        check_rules_of(config)
