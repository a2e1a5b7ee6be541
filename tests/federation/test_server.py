"""The server alone, with answers made up: which updates count, which round is best, who is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedumm.adapters import encode, spec_of
from fedumm.adapters.folder import read_folder
from fedumm.errors import FedummError
from fedumm.features.report import CacheReport
from fedumm.federation.drive import drive
from fedumm.federation.messages import (
    HostError,
    HostReply,
    Message,
    Ready,
    RoundTask,
    Setup,
    Sizes,
    Survey,
    Update,
    from_wire,
    to_wire,
)
from fedumm.federation.server import Server, uniform_sampler
from fedumm.federation.topology import balanced, natural
from fedumm.report.run_folder import RunFolder, read_records
from fedumm.training.results import Evaluation
from toy import toy_config

CLIENTS = ("site-1", "site-2")
SIZES = {"site-1": 30, "site-2": 10}
START = {"w": torch.zeros(3)}
Reply = Callable[[RoundTask], list[Update]]


def good(task: RoundTask, client: str, value: float, score: float = 0.5) -> Update:
    """A client's update to a constant."""
    adapter = encode({"w": torch.full((3,), value)}) if task.train else b""
    held = Evaluation(score, 5, {"yes/no": (score, 5)})
    return Update(client, task.round, adapter, SIZES[client], 4, 1.0, held, held)


def run(
    folder: Path, reply: Reply, tests: Callable[[RoundTask], Evaluation | None] = lambda _: None, **options: Any
) -> Server:
    """Drive a server of two clients on one host, whose answers to round tasks come from ``reply``."""
    server = Server(toy_config(num_clients=2, **options), {"host-1": list(CLIENTS)}, RunFolder(folder, toy_config()))
    clients = {c: {"train": SIZES[c], "heldout": 5, "labels": {"yes": SIZES[c]}} for c in CLIENTS}

    def send(message: Message) -> dict[str, Message]:
        if isinstance(message, Survey):
            return {"host-1": Sizes(clients, "iid", "print")}
        if isinstance(message, Setup):
            return {"host-1": Ready(spec_of(START), {}, 3, 10, encode(START), 0, CacheReport(), "cpu")}
        assert isinstance(message, RoundTask)
        return {"host-1": HostReply(reply(message), tests(message))}

    drive(server, send)
    return server


def change(**fields: Any) -> Reply:
    """Both clients answer well, but for ``fields`` of site-2's updates."""

    def reply(task: RoundTask) -> list[Update]:
        second = good(task, "site-2", 8.0)
        altered = Update(**{**second.__dict__, **fields}) if task.train else second
        return [good(task, "site-1", 2.0), altered]

    return reply


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no tensor": ({"adapter": encode({})}, "missing"),
    "extra tensor": ({"adapter": encode({"w": torch.zeros(3), "x": torch.zeros(1)})}, "unknown"),
    "renamed": ({"adapter": encode({"v": torch.zeros(3)})}, "missing"),
    "shape": ({"adapter": encode({"w": torch.zeros(4)})}, "expected float32"),
    "dtype": ({"adapter": encode({"w": torch.zeros(3, dtype=torch.float64)})}, "expected float32"),
    "NaN": ({"adapter": encode({"w": torch.tensor([0.0, float("nan"), 0.0])})}, "NaN or infinite"),
    "infinite": ({"adapter": encode({"w": torch.tensor([0.0, float("inf"), 0.0])})}, "NaN or infinite"),
    "not an adapter": ({"adapter": b"garbage"}, "not an adapter"),
    "empty": ({"adapter": b""}, "not an adapter"),
    "of another round": ({"round": 7}, "round 7"),
    "too many samples": ({"num_samples": 10**12}, "claims 1000000000000 samples, the survey said 10"),
    "no samples": ({"num_samples": 0}, "claims 0 samples"),
    "failed": ({"error": "RuntimeError: no memory", "adapter": b""}, "no memory"),
    "of a stranger": ({"client": "site-9"}, "no answer"),
    "of the other client": ({"client": "site-1"}, "no answer"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_update_is_left_out_with_its_reason_and_changes_nothing(tmp_path: Path, case: str) -> None:
    fields, reason = BAD[case]
    server = run(tmp_path, change(**fields))
    assert torch.equal(server.adapter["w"], torch.full((3,), 2.0)), "what site-1 sent"
    clients = [r for r in read_records(tmp_path) if r["event"] == "client" and r["client"] == "site-2"]
    assert all(reason in r["left_out"] for r in clients)
    assert {r["clients"] for r in read_records(tmp_path) if r["event"] == "round"} == {1}


def test_the_mean_weighs_by_samples(tmp_path: Path) -> None:
    server = run(tmp_path, change())
    assert torch.allclose(server.adapter["w"], torch.full((3,), (30 * 2.0 + 10 * 8.0) / 40))


def test_without_a_usable_update_the_run_ends_and_the_last_good_state_stays(tmp_path: Path) -> None:
    def reply(task: RoundTask) -> list[Update]:
        return [] if task.round == 2 else [good(task, c, 4.0) for c in CLIENTS]

    with pytest.raises(FedummError, match=r"Round 2: no client sent a usable update"):
        run(tmp_path, reply)
    assert torch.equal(read_folder(tmp_path / "adapter" / "last")[0]["w"], torch.full((3,), 4.0))


def test_the_best_round_is_the_one_whose_adapter_scored_highest_before_training(tmp_path: Path) -> None:
    """Scores of rounds 1..4 are those of the adapters after 0..3 rounds."""
    scores = {1: 0.2, 2: 0.7, 3: 0.6, 4: 0.7}
    run(tmp_path, lambda task: [good(task, c, float(task.round), scores[task.round]) for c in CLIENTS], num_rounds=3)
    (summary,) = [r for r in read_records(tmp_path) if r["event"] == "summary"]
    assert summary["best"]["round"] == 1, "the earlier one of two equals"
    assert (summary["untrained"]["heldout"], summary["last"]["heldout"]) == (0.2, 0.7)
    assert torch.equal(read_folder(tmp_path / "adapter" / "best")[0]["w"], torch.full((3,), 1.0))
    assert torch.equal(read_folder(tmp_path / "adapter" / "last")[0]["w"], torch.full((3,), 3.0))


def test_scores_are_means_over_examples(tmp_path: Path) -> None:
    def reply(task: RoundTask) -> list[Update]:
        held = {"site-1": Evaluation(1.0, 30, {}), "site-2": Evaluation(0.0, 10, {})}
        return [Update(**{**good(task, c, 1.0).__dict__, "before": held[c]}) for c in CLIENTS]

    run(tmp_path, reply)
    assert {r["heldout"] for r in read_records(tmp_path) if r["event"] == "round"} == {0.75}


def two_hosts(folder: Path) -> Server:
    return Server(
        toy_config(num_clients=2), {"host-1": ["site-1"], "host-2": ["site-2"]}, RunFolder(folder, toy_config())
    )


def sizes(fingerprint: str = "print", **train: int) -> Sizes:
    """A survey's answer: ``site_1=5`` gives site-1 five rows."""
    rows = {"site_1": 5, "site_2": 5, **train}
    clients = {c.replace("_", "-"): {"train": n, "heldout": 1, "labels": {"yes": n}} for c, n in rows.items()}
    return Sizes(clients, "iid", fingerprint)


def test_hosts_with_other_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FedummError, match="host-2 has other data"):
        two_hosts(tmp_path).setup({"host-1": sizes(), "host-2": sizes("another")})


def test_hosts_with_another_adapter_are_refused(tmp_path: Path) -> None:
    server = two_hosts(tmp_path)
    server.setup({"host-1": sizes(), "host-2": sizes()})
    first = Ready(spec_of(START), {}, 3, 9, encode(START), 0, CacheReport(), "cpu")
    second = Ready({"w": ((4,), "float32")}, {}, 4, 9, b"", 0, CacheReport(), "cpu")
    with pytest.raises(FedummError, match="host-2 has an adapter of another shape"):
        server.start({"host-1": first, "host-2": second})


def test_simulated_clients_are_dealt_out_by_size(tmp_path: Path) -> None:
    train = {"site_1": 3728, "site_2": 7681, "site_3": 7512, "site_4": 15789}
    layout = {"host-1": ["site-1", "site-3"], "host-2": ["site-2", "site-4"]}
    for balance, expected in (
        (False, layout),
        (True, {"host-1": ["site-4"], "host-2": ["site-1", "site-2", "site-3"]}),
    ):
        server = Server(toy_config(num_clients=4), layout, RunFolder(tmp_path, toy_config()), balance=balance)
        setup = server.setup({host: sizes(**train) for host in layout})
        assert setup.assignments == server.assignments == expected


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40), st.integers(1, 8))
def test_balancing_loses_no_client_and_keeps_its_bound(sizes: list[int], hosts: int) -> None:
    clients = {f"site-{i}": size for i, size in enumerate(sizes, 1)}
    result = balanced(clients, [f"host-{h}" for h in range(1, hosts + 1)])
    assert sorted(c for own in result.values() for c in own) == sorted(clients)
    fullest = max(sum(clients[c] for c in own) for own in result.values())
    assert fullest <= sum(sizes) / hosts + (1 - 1 / hosts) * max(sizes) + 1e-9, "Graham's bound (1966)"


def test_a_host_that_can_not_go_on_ends_the_run_with_its_words(tmp_path: Path) -> None:
    server = Server(toy_config(), {"host-1": ["site-1", "site-2", "site-3"]}, RunFolder(tmp_path, toy_config()))
    with pytest.raises(FedummError, match="host-1: the disk is full"):
        drive(server, lambda _: {"host-1": HostError("the disk is full")})


def test_the_sampler_draws_without_replacement_and_evenly() -> None:
    roster = [f"site-{i}" for i in range(1, 11)]
    sample = uniform_sampler(3, seed=5)
    drawn = [sample(n, roster) for n in range(1, 1001)]
    assert all(len(set(d)) == 3 and d == sorted(d, key=roster.index) for d in drawn)
    counts = [sum(name in d for d in drawn) for name in roster]
    assert all(240 < c < 360 for c in counts), "300 expected, standard deviation 14.5"
    assert drawn == [uniform_sampler(3, seed=5)(n, roster) for n in range(1, 1001)]
    assert uniform_sampler(0, seed=5)(1, roster) == roster


def test_names_sort_by_their_numbers() -> None:
    assert sorted(["site-10", "site-2", "hospital", "site-1"], key=natural) == [
        "hospital",
        "site-1",
        "site-2",
        "site-10",
    ]


MESSAGES: list[Message] = [
    Survey(["site-1", "site-2"]),
    Sizes({"site-1": {"train": 1, "heldout": 0, "labels": {"yes": 1}}}, "iid", "f"),
    Setup({"host-1": ["site-1"]}, {"host-1": [0, 1]}, "host-1"),
    Ready({"w": ((2, 3), "float32")}, {}, 6, 9, b"x", 3, CacheReport("disk", 9, 2, 1), "cpu"),
    RoundTask(3, True, b"abc", {"host-1": ["site-1"]}),
    HostReply([Update("site-1", 3, b"a", 2, 1, 0.5, Evaluation(0.5, 2, {"x": (0.5, 2)}))], Evaluation(0.1, 9, {})),
    HostReply([], None, 1.5),
    HostError("no", "trace"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_messages_survive_the_wire(message: Message) -> None:
    assert from_wire(to_wire(message)) == message


@pytest.mark.parametrize(
    "data",
    [
        {}, {"kind": "Nonsense"}, {"kind": "RoundTask"}, {"kind": "HostReply", "updates": [{}], "test": None},
        {"kind": "HostReply", "updates": None, "test": None}, {"kind": "HostError", "message": "a", "extra": 1},
        {"kind": "HostReply", "updates": [{**to_wire(MESSAGES[5])["updates"][0], "num_samples": "2"}], "test": None},
        {"kind": "Ready", "spec": 3},
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a message"):
        from_wire(data)
