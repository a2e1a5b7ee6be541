"""A whole federated run without NVIDIA FLARE: contracts on bits, bytes, records and the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from fedumm.adapters import spec_of
from fedumm.adapters.folder import read_folder
from fedumm.compression.packing import pack, unpack
from fedumm.errors import FedummError
from fedumm.federation.client.host import Host
from fedumm.federation.protocol.messages import DataStats, HostError, Message, RoundReply, RoundTask
from fedumm.federation.runners.in_process import ask_in_turn
from fedumm.federation.runners.round_loop import drive
from fedumm.federation.server.server import Server
from fedumm.plugins import load_plugins
from fedumm.report.run_folder import RunFolder, read_records
from fedumm.training.backbone import Backbone
from support.toy import TOY, Run, together, toy_config


def of(records: Sequence[Mapping[str, Any]], event: str) -> list[Mapping[str, Any]]:
    return [r for r in records if r["event"] == event]


def weights(folder: Path, which: str = "last") -> bytes:
    return (folder / "adapter" / which / "adapter_model.safetensors").read_bytes()


def drive_hosts(folder: Path, assignments: dict[str, list[str]], **options: Any) -> list[tuple[Message, Message]]:
    """Run with clients dealt out and ordered as given; returns every message with its answer."""
    config = toy_config(**options)
    load_plugins([str(TOY)])
    folder.mkdir()
    hosts = {
        name: Host(name, config, lambda *_: None, folder / "clients", i, len(assignments), simulated=True)
        for i, name in enumerate(assignments)
    }
    seen: list[tuple[Message, Message]] = []

    def send(message: Message) -> dict[str, Message]:
        answers = {name: host.handle(message) for name, host in hosts.items()}
        seen.extend((message, answer) for answer in answers.values())
        return answers

    drive(Server(config, assignments, folder / "state", [RunFolder(folder, config)]), together(send))
    return seen


def test_training_helps_and_the_best_round_is_kept(run_toy: Run) -> None:
    _, records = run_toy(num_rounds=4, max_train_samples=400, max_eval_samples=200)
    (summary,) = of(records, "summary")
    assert summary["best"]["heldout"] > summary["untrained"]["heldout"] + 0.1
    assert summary["best"]["test"] > summary["untrained"]["test"] + 0.1
    scores = [r["heldout"] for r in (*of(records, "round"), *of(records, "final"))]
    assert summary["best"]["round"] == scores.index(max(scores))
    assert [r["round"] for r in of(records, "round")] == [1, 2, 3, 4]
    assert len(of(records, "client")) == 3 * 4


@pytest.mark.parametrize("hosts", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_any_number_of_hosts_gives_the_same_bits(run_toy: Run, hosts: int) -> None:
    one, first = run_toy("one", hosts=1)
    many, second = run_toy("many", hosts=hosts)
    for which in ("best", "last"):
        assert weights(one, which) == weights(many, which)
    keys = ("train_loss", "heldout", "heldout_after")
    assert [[r[k] for k in keys] for r in of(first, "client")] == [[r[k] for k in keys] for r in of(second, "client")]


def test_clients_do_not_reach_each_other(tmp_path: Path) -> None:
    """Served in another order, alone or together: every client's update has the same bits."""
    layouts = {
        "forward": {"host-1": ["site-1", "site-2", "site-3"]},
        "backward": {"host-1": ["site-3", "site-2", "site-1"]},
        "apart": {"host-1": ["site-2"], "host-2": ["site-1", "site-3"]},
    }
    results = {}
    for name, layout in layouts.items():
        seen = drive_hosts(tmp_path / name, layout)
        results[name] = {
            (u.round, u.client): (u.adapter, u.train_loss, u.before, u.after)
            for _, answer in seen
            if isinstance(answer, RoundReply)
            for u in answer.updates
        }
    assert len(results["forward"]) == 3 * 3
    assert results["forward"] == results["backward"] == results["apart"]


def test_the_new_global_adapter_is_the_sample_weighted_mean_of_the_updates(tmp_path: Path) -> None:
    seen = drive_hosts(tmp_path / "run", {"host-1": ["site-1", "site-2", "site-3"]})
    rounds = [(task, reply) for task, reply in seen if isinstance(task, RoundTask) and isinstance(reply, RoundReply)]
    for (_, reply), (following, _) in pairwise(rounds):
        total = sum(u.num_samples for u in reply.updates)
        spec = spec_of(read_folder(tmp_path / "run" / "adapter" / "last")[0])
        after = unpack(following.adapter.payload, spec)
        updates = [(unpack(u.adapter, spec), u.num_samples / total) for u in reply.updates]
        for name in after:
            expected = sum(state[name].double() * share for state, share in updates)
            torch.testing.assert_close(after[name].double(), expected, rtol=1e-7, atol=1e-9)


def test_with_noise_at_the_client_no_update_leaves_it_unclipped(tmp_path: Path) -> None:
    """Almost without noise, updates are as long as allowed; with some, they differ from those of a second run."""
    options: dict[str, Any] = {"dp": "local", "dp_clip": 0.01, "num_rounds": 1}

    def updates(name: str, noise: float) -> list[torch.Tensor]:
        seen = drive_hosts(tmp_path / name, {"host-1": ["site-1", "site-2"]}, dp_noise_multiplier=noise, **options)
        spec = spec_of(read_folder(tmp_path / name / "adapter" / "last")[0])
        (task, reply), *_ = [(t, r) for t, r in seen if isinstance(t, RoundTask) and isinstance(r, RoundReply)]
        start = unpack(task.adapter.payload, spec)
        return [
            torch.cat([(t - start[name]).flatten() for name, t in unpack(u.adapter, spec).items()])
            for u in reply.updates
        ]

    for update in updates("quiet", 1e-9):
        assert float(update.norm()) == pytest.approx(0.01, rel=1e-4)
    first, second = updates("first", 1.0), updates("second", 1.0)
    for one, other in zip(first, second, strict=True):
        std = float((one - other).std()) / 2**0.5
        assert std == pytest.approx(0.01, rel=0.2), "two draws of noise with sigma C"


def test_a_site_that_fails_leaves_out_itself_alone_and_is_back_in_the_next_round(tmp_path: Path) -> None:
    """site-3 answers with an error in round 2, before it has taken in what the round brought."""
    config = toy_config(num_rounds=4)
    load_plugins([str(TOY)])
    folder = tmp_path / "run"
    folder.mkdir()
    sites = [f"site-{i}" for i in (1, 2, 3)]
    hosts = {
        name: Host(name, config, lambda *_: None, folder / "clients", i, 3, simulated=True)
        for i, name in enumerate(sites)
    }

    def handle(name: str, message: Message) -> Message:
        failing = isinstance(message, RoundTask) and message.round == 2 and name == "site-3"
        return HostError("no power") if failing else hosts[name].handle(message)

    server = Server(config, {name: [name] for name in sites}, folder / "state", [RunFolder(folder, config)])
    drive(server, partial(ask_in_turn, handle))
    out = [(r["round"], r["client"], r["rejected"], r["reason"]) for r in read_records(folder) if r.get("rejected")]
    assert out == [(2, "site-3", "failed", "no power")]
    assert [r["clients"] for r in read_records(folder) if r["event"] == "round"] == [3, 2, 3, 3]


def test_with_noise_at_the_client_a_round_is_answered_once(tmp_path: Path) -> None:
    seen = drive_hosts(
        tmp_path / "run", {"host-1": ["site-1", "site-2", "site-3"]}, dp="local", dp_noise_multiplier=1.0, num_rounds=1
    )
    config = toy_config(dp="local", dp_noise_multiplier=1.0, num_rounds=1)
    host = Host("host-1", config, lambda *_: None, tmp_path / "clients", simulated=True)
    answers = [host.handle(message) for message, _ in seen]
    assert isinstance(answers[2], RoundReply)
    again = host.handle(seen[2][0])
    assert isinstance(again, HostError)
    assert "its noise would be spent twice" in again.message


def test_every_client_starts_from_the_common_adapter(tmp_path: Path) -> None:
    """No matter what the seed of another purpose is, round 1 begins with host-1's fresh adapter."""
    seen = drive_hosts(tmp_path / "run", {"host-1": ["site-1"], "host-2": ["site-2", "site-3"]})
    first = [task for task, _ in seen if isinstance(task, RoundTask) and task.round == 1]
    assert len({task.adapter for task in first}) == 1


def test_counted_bytes_are_the_serialised_adapters(run_toy: Run) -> None:
    folder, records = run_toy()
    state = read_folder(folder / "adapter" / "last")[0]
    size = len(pack(state, "float32", spec_of(state)))
    for client in of(records, "client"):
        assert client["bytes_down"] == client["bytes_up"] == size
    for entry in of(records, "round"):
        assert entry["bytes_down"] == size, "one copy for the one host"
        assert entry["bytes_up"] == 3 * size


def test_only_sampled_clients_train_and_all_are_scored_at_the_end(run_toy: Run) -> None:
    _, records = run_toy(clients_per_round=2, num_rounds=4)
    by_round = {n: [r["client"] for r in of(records, "client") if r["round"] == n] for n in range(1, 5)}
    assert all(len(clients) == 2 for clients in by_round.values())
    assert len({tuple(clients) for clients in by_round.values()}) > 1, "another draw each round"
    (setup,) = of(records, "setup")
    held = {name: c["heldout"] for name, c in setup["clients"].items()}
    last = of(records, "round")[-1]
    assert last["clients"] == 2
    assert sum(held.values()) > 0
    assert of(records, "final")[0]["heldout"] is not None


def test_the_run_folder_holds_what_it_promises(run_toy: Run) -> None:
    folder, _ = run_toy()
    for name in ("config.yaml", "partition.json", "metrics.jsonl", "partition.png", "rounds.png"):
        assert (folder / name).stat().st_size > 0, name
    assert list((folder / "tensorboard").glob("events.*"))
    for which in ("best", "last"):
        card = (folder / "adapter" / which / "README.md").read_text()
        assert "| Clients | 3, Dirichlet(0.5) over answer, seed 42 |" in card
        assert " % |" in card, "the scores are known by the end"


def test_equal_seeds_give_equal_runs_and_others_do_not(run_toy: Run) -> None:
    one, two, other = (run_toy(name, seed=seed)[0] for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert weights(one) == weights(two)
    assert weights(one) != weights(other)


def test_too_many_clients_are_refused(run_toy: Run) -> None:
    with pytest.raises(FedummError, match="500 clients are too many for"):
        run_toy(num_clients=500)


def test_a_failing_client_is_rejected_and_named(run_toy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import fedumm.federation.client.client as client_module

    real = client_module.train_epochs

    def train(*args: Any, **kwargs: Any) -> Any:
        if train.calls == 1:
            train.calls += 1
            raise RuntimeError("no memory")
        train.calls += 1
        return real(*args, **kwargs)

    train.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(client_module, "train_epochs", train)
    _, records = run_toy()
    clients = of(records, "client")
    assert [c["rejected"] for c in clients[:3]] == [None, "failed", None]
    assert [c["reason"] for c in clients[:3]] == [None, "RuntimeError: no memory", None]
    assert of(records, "round")[0]["clients"] == 2


@pytest.mark.parametrize("fail_at", [0, 1])
def test_a_client_that_fails_halfway_leaves_nothing_to_the_next(
    run_toy: Run, monkeypatch: pytest.MonkeyPatch, fail_at: int
) -> None:
    """Its gradients of a step that was not taken must not enter the next client's first step."""
    healthy, _ = run_toy("healthy", num_rounds=1)
    real, calls = Backbone.train_step, []

    def step(backbone: Backbone, batch: Any) -> torch.Tensor:
        calls.append(1)
        loss = real(backbone, batch)
        if len(calls) == fail_at + 1:
            loss.backward()
            raise RuntimeError("no memory")
        return loss

    updates: dict[str, dict[str, bytes]] = {}
    for name, patched in (("healthy", real), ("failing", step)):
        monkeypatch.setattr(Backbone, "train_step", patched)
        folder = healthy.with_name(f"drive-{name}")
        seen = drive_hosts(folder, {"host-1": ["site-1", "site-2", "site-3"]}, num_rounds=1)
        updates[name] = {
            u.client: u.adapter
            for _, a in seen
            if isinstance(a, RoundReply)
            for u in a.updates
            if u.adapter and u.round == 1
        }
    assert set(updates["failing"]) == {"site-2", "site-3"}
    assert all(updates["healthy"][c] == updates["failing"][c] for c in ("site-2", "site-3"))


def test_progress_names_the_host(tmp_path: Path) -> None:
    lines: list[str] = []
    config = toy_config(hosts=1)
    load_plugins([str(TOY)])
    progress = partial(lambda store, text, done, total: store.append(text), lines)
    host = Host("host-1", config, progress, Path("unused"), simulated=True)
    server = Server(
        config, {"host-1": ["site-1", "site-2", "site-3"]}, tmp_path / "state", [RunFolder(tmp_path, config)]
    )
    sizes = host.handle(server.survey())
    assert isinstance(sizes, DataStats)
    host.handle(server.setup({"host-1": sizes}))
    assert "loading the model" in lines
