"""The server alone, with answers made up: which updates count, which round is best, who is asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from fedumm.adapters import encode, spec_of
from fedumm.adapters.folder import read_folder
from fedumm.compression.packing import pack
from fedumm.errors import FedummError
from fedumm.features.report import CacheReport
from fedumm.federation.protocol.initial_adapter import adapter_digest
from fedumm.federation.protocol.messages import (
    ClientUpdate,
    DataStats,
    DataStatsRequest,
    InitReply,
    InitRequest,
    Message,
    RoundReply,
    RoundTask,
)
from fedumm.federation.runners.round_loop import drive
from fedumm.federation.server.server import Server
from fedumm.formatting import epsilon_text
from fedumm.metrics.evaluation import Evaluation, Scores
from fedumm.report.run_folder import RunFolder, read_records
from support.toy import together, toy_config

CLIENTS = ("site-1", "site-2")
SIZES = {"site-1": 30, "site-2": 10}
STEPS = {"site-1": 4, "site-2": 2}
START = {"w": torch.zeros(3)}
Reply = Callable[[RoundTask], list[ClientUpdate]]


def good(task: RoundTask, client: str, value: float, score: float = 0.5) -> ClientUpdate:
    """A client's update to a constant."""
    adapter = packed({"w": torch.full((3,), value)}) if task.train else b""
    held = {"vqa": Evaluation(score, 5, {"yes/no": (score, 5)})}
    return ClientUpdate(
        client=client,
        round=task.round,
        adapter=adapter,
        untrained=[],
        num_samples=SIZES[client],
        steps=STEPS[client],
        train_loss=1.0,
        train_losses={"vqa": 1.0},
        before=held,
        after=held,
    )


def packed(state: dict[str, torch.Tensor], **others: torch.Tensor) -> bytes:
    """``state`` as a client sends it that believes the adapter to have the tensors ``others`` too."""
    return pack(state, "float32", spec_of(state | others))


def run(
    folder: Path, reply: Reply, tests: Callable[[RoundTask], Scores] = lambda _: {}, start: Any = START,
    heldout: Sequence[int] = (5, 5), **options: Any,
) -> Server:  # fmt: skip
    """Drive a server of two clients on one host, whose answers to round tasks come from ``reply``."""
    config = toy_config(num_clients=2, **options)
    folder.mkdir(exist_ok=True)
    server = Server(config, {"host-1": list(CLIENTS)}, folder / "state", [RunFolder(folder, config)])
    clients = {
        c: {"train": SIZES[c], "heldout": held, "tasks": {"vqa": SIZES[c]}, "labels": {"yes": SIZES[c]}}
        for c, held in zip(CLIENTS, heldout, strict=True)
    }

    def send(message: Message) -> dict[str, Message]:
        if isinstance(message, DataStatsRequest):
            return {"host-1": DataStats(clients, "iid", "print")}
        if isinstance(message, InitRequest):
            return {
                "host-1": InitReply(
                    spec=spec_of(start),
                    adapter_config={},
                    trainable=3,
                    total=10,
                    adapter=encode(start),
                    test_samples=0,
                    cache=[CacheReport()],
                    device="cpu",
                    digest=adapter_digest(start),
                )
            }
        assert isinstance(message, RoundTask)
        return {"host-1": RoundReply(reply(message), tests(message))}

    drive(server, together(send))
    return server


def change(**fields: Any) -> Reply:
    """Both clients answer well, but for ``fields`` of site-2's updates."""

    def reply(task: RoundTask) -> list[ClientUpdate]:
        second = good(task, "site-2", 5.0)
        altered = ClientUpdate(**{**second.__dict__, **fields}) if task.train else second
        return [good(task, "site-1", 2.0), altered]

    return reply


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no tensor": ({"adapter": packed({}, w=START["w"])}, "tensors"),
    "extra tensor": ({"adapter": packed({"w": torch.zeros(3), "x": torch.zeros(1)})}, "payload"),
    "renamed": ({"adapter": packed({"v": torch.zeros(3)})}, "payload"),
    "shape": ({"adapter": packed({"w": torch.zeros(4)})}, "payload"),
    "dtype": ({"adapter": packed({"w": torch.zeros(3, dtype=torch.float64)})}, "payload"),
    "NaN": ({"adapter": packed({"w": torch.tensor([0.0, float("nan"), 0.0])})}, "non_finite"),
    "infinite": ({"adapter": packed({"w": torch.tensor([0.0, float("inf"), 0.0])})}, "non_finite"),
    "cut short": ({"adapter": packed({"w": torch.ones(3)})[:-1]}, "payload"),
    "not an adapter": ({"adapter": b"garbage" * 9}, "payload"),
    "empty": ({"adapter": b""}, "payload"),
    "of another round": ({"round": 7}, "stale"),
    "too many samples": ({"num_samples": 10**12}, "claims"),
    "no samples": ({"num_samples": 0}, "claims"),
    "of a task without data": ({"train_losses": {"vqa": 1.0, "t2i": 1.0}}, "claims"),
    "of nothing": ({"adapter": packed({}, w=START["w"]), "untrained": ["w"]}, "tensors"),
    "leaving out what is not there": ({"untrained": ["v"]}, "tensors"),
    "leaving out what it sends": ({"untrained": ["w"]}, "tensors"),
    "too many steps": ({"steps": 10**6}, "claims"),
    "huge": ({"adapter": packed({"w": torch.full((3,), 1e30)})}, "huge"),
    "far from the others": ({"adapter": packed({"w": torch.full((3,), 1e3)})}, "norm"),
    "a loss that is NaN": ({"train_loss": math.nan}, "loss"),
    "a score that is NaN": ({"before": {"vqa": Evaluation(math.nan, 5, {})}}, "score"),
    "a score that is absurd": ({"before": {"vqa": Evaluation(1e9, 5, {})}}, "score"),
    "a score of no task": ({"before": {"x": Evaluation(1.0, 5, {})}}, "score"),
    "a score of images": (
        {"before": {"vqa": Evaluation(1.0, 5, {}), "geneval": Evaluation(1.0, 5, {})}},
        "score",
    ),
    "a part that is more": ({"after": {"vqa": Evaluation(1.0, 5, {"x": (1.0, 10**400)})}}, "score"),
    "a score of other samples": ({"before": {"vqa": Evaluation(1.0, 50, {})}}, "score"),
    "control variates": ({"control": b"x"}, "control"),
    "failed": ({"error": "RuntimeError: no memory", "adapter": b""}, "failed"),
    "of a stranger": ({"client": "site-9"}, "missing"),
    "of the other client": ({"client": "site-1"}, "missing"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_update_is_rejected_with_its_code_and_changes_nothing(tmp_path: Path, case: str) -> None:
    fields, code = BAD[case]
    server = run(tmp_path, change(**fields), num_rounds=1)
    assert torch.equal(server.adapter["w"], torch.full((3,), 2.0)), "what site-1 sent"
    clients = [r for r in read_records(tmp_path) if r["event"] == "client" and r["client"] == "site-2"]
    assert {r["rejected"] for r in clients} == {code}
    assert all(r["reason"] for r in clients)
    assert {r["clients"] for r in read_records(tmp_path) if r["event"] == "round"} == {1}


def test_with_noise_at_the_client_no_round_is_repeated(tmp_path: Path) -> None:
    asked: list[int] = []

    def reply(task: RoundTask) -> list[ClientUpdate]:
        asked.append(task.round)
        return [good(task, "site-1", 1.0)]

    with pytest.raises(FedummError, match="Round 1: 1 usable update"):
        run(tmp_path, reply, dp="local", dp_noise_multiplier=1.0, min_clients=2)
    assert asked == [1]


def test_the_mean_weighs_by_samples(tmp_path: Path) -> None:
    server = run(tmp_path, change(), num_rounds=1)
    assert torch.allclose(server.adapter["w"], torch.full((3,), (30 * 2.0 + 10 * 5.0) / 40))


def test_without_a_usable_update_the_run_ends_and_the_last_good_state_stays(tmp_path: Path) -> None:
    def reply(task: RoundTask) -> list[ClientUpdate]:
        return [] if task.round == 2 else [good(task, c, 4.0) for c in CLIENTS]

    with pytest.raises(FedummError, match=r"Round 2: 0 usable update\(s\), and --min_clients 1"):
        run(tmp_path, reply)
    assert torch.equal(read_folder(tmp_path / "adapter" / "last")[0]["w"], torch.full((3,), 4.0))


def test_a_full_disk_is_one_clear_error_and_the_round_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedumm.federation.server import checkpoint

    real, written = checkpoint.write_durably, list[Path]()

    def write(path: Path, content: bytes) -> None:
        written.append(path)
        if len(written) > 1:
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(checkpoint, "write_durably", write)
    with pytest.raises(FedummError, match=r"Round 2 can't be saved: .*No space left.* make room and resume"):
        run(tmp_path, lambda task: [good(task, c, float(task.round)) for c in CLIENTS], num_rounds=3)
    found = checkpoint.Checkpoint(tmp_path / "state").load()
    assert found is not None
    assert found[1]["round"] == 1
    assert torch.equal(found[0]["held/w"], torch.full((3,), 1.0))


def test_too_few_usable_updates_repeat_the_round_once(tmp_path: Path) -> None:
    """What failed the first time works the second time: as if nothing had been."""
    seen: list[int] = []

    def reply(task: RoundTask) -> list[ClientUpdate]:
        seen.append(task.round)
        failed = task.round == 2 and seen.count(2) == 1
        return [good(task, c, float(task.round)) for c in (CLIENTS[:1] if failed else CLIENTS)]

    server = run(tmp_path / "once", reply, num_rounds=3, min_clients=2)
    assert seen == [1, 2, 2, 3, 4]
    events = [(r["event"], r["round"]) for r in read_records(tmp_path / "once") if r["event"] in ("round", "repeat")]
    assert events == [("round", 1), ("repeat", 2), ("round", 2), ("round", 3)]
    assert torch.equal(server.adapter["w"], torch.full((3,), 3.0))
    with pytest.raises(FedummError, match=r"Round 1: 1 usable update\(s\), and --min_clients 2"):
        run(tmp_path / "twice", lambda task: [good(task, "site-1", 1.0)], num_rounds=3, min_clients=2)


@pytest.mark.parametrize(("over", "expected"), [("reject", 1.0), ("clip", (30 * 1.0 + 10 * 2.0 / 3**0.5) / 40)])
def test_an_update_above_the_norm_is_rejected_or_scaled_down(tmp_path: Path, over: str, expected: float) -> None:
    """site-2 moves by 5 sqrt(3), site-1 by sqrt(3); the limit is 2."""
    values = {"site-1": 1.0, "site-2": 5.0}
    server = run(
        tmp_path, lambda task: [good(task, c, v) for c, v in values.items()],
        num_rounds=1, max_update_norm=2.0, over_norm=over,
    )  # fmt: skip
    assert server.adapter["w"].tolist() == pytest.approx([expected] * 3)
    norms = {r["client"]: r["norm"] for r in read_records(tmp_path) if r["event"] == "client"}
    assert norms == pytest.approx({"site-1": 3**0.5, "site-2": 5 * 3**0.5})


@pytest.mark.parametrize(("weights", "expected"), [("samples", 11 / 40), ("equal", 0.5), ("steps", 4.0 / 6)])
def test_clients_weigh_by_what_was_asked_for(tmp_path: Path, weights: str, expected: float) -> None:
    """site-1 has 30 samples and 4 steps, site-2 10 and 2."""
    values = {"samples": {"site-1": 0.2, "site-2": 0.5}}.get(weights, {"site-1": 1.0, "site-2": 0.0})
    server = run(
        tmp_path, lambda task: [good(task, c, v) for c, v in values.items()], num_rounds=1, client_weights=weights
    )
    assert server.adapter["w"].tolist() == pytest.approx([expected] * 3)


def test_with_noise_at_the_server_every_update_is_clipped_and_the_divisor_is_fixed(tmp_path: Path) -> None:
    """Almost without noise; site-2's length is cut to 1. One client alone still counts for a half."""
    options: dict[str, Any] = {
        "dp": "central", "dp_noise_multiplier": 1e-9, "client_weights": "equal", "dp_delta": 0.1, "num_rounds": 1,
    }  # fmt: skip
    both = run(
        tmp_path / "both", lambda task: [good(task, "site-1", 1e-3), good(task, "site-2", 99.0)], **options
    ).adapter["w"]
    assert both.tolist() == pytest.approx([(1e-3 + 1 / 3**0.5) / 2] * 3, abs=1e-6)
    alone = run(tmp_path / "alone", lambda task: [good(task, "site-2", 99.0)], **options).adapter["w"]
    assert alone.tolist() == pytest.approx([1 / 3**0.5 / 2] * 3, abs=1e-6)
    noisy = run(
        tmp_path / "noisy", lambda task: [good(task, "site-2", 99.0)], **{**options, "dp_noise_multiplier": 1e3}
    ).adapter["w"]
    assert noisy.abs().max() > 1


def test_with_privacy_best_is_last_and_other_clients_do_not_decide_who_counts(tmp_path: Path) -> None:
    scores = {1: 0.9, 2: 0.2, 3: 0.1}
    run(
        tmp_path,
        lambda task: [
            good(task, "site-1", 1e-3 * task.round, scores[task.round]), good(task, "site-2", 99.0 * task.round),
        ],
        num_rounds=2, dp="central", dp_noise_multiplier=0.5, client_weights="equal", dp_delta=0.1,
    )  # fmt: skip
    records = list(read_records(tmp_path))
    assert not any(r["rejected"] for r in records if r["event"] == "client")
    (summary,) = [r for r in records if r["event"] == "summary"]
    assert summary["best"]["round"] == 2
    (setup,) = [r for r in records if r["event"] == "setup"]
    assert setup["noise"] == {"norm": pytest.approx(0.5 * 3**0.5 / 2), "clip": 1.0}, "sigma C sqrt(values) / clients"
    epsilons = [r["epsilon"] for r in records if r["event"] == "round"]
    assert 0 < epsilons[0] < epsilons[1]
    assert (
        f"epsilon {epsilon_text(epsilons[1])}, delta 0.1" in (tmp_path / "adapter" / "best" / "README.md").read_text()
    )


def test_the_best_round_is_the_one_whose_adapter_scored_highest_before_training(tmp_path: Path) -> None:
    """Scores of rounds 1..4 are those of the adapters after 0..3 rounds."""
    scores = {1: 0.2, 2: 0.7, 3: 0.6, 4: 0.7}
    run(tmp_path, lambda task: [good(task, c, float(task.round), scores[task.round]) for c in CLIENTS], num_rounds=3)
    (summary,) = [r for r in read_records(tmp_path) if r["event"] == "summary"]
    assert summary["best"]["round"] == 1, "the earlier one of two equals"
    assert (summary["untrained"]["heldout"], summary["last"]["heldout"]) == (0.2, 0.7)
    assert torch.equal(read_folder(tmp_path / "adapter" / "best")[0]["w"], torch.full((3,), 1.0))
    assert torch.equal(read_folder(tmp_path / "adapter" / "last")[0]["w"], torch.full((3,), 3.0))


def test_more_rounds_for_a_finished_run_know_its_best_adapter(tmp_path: Path) -> None:
    """Who takes part in the next round may score it lower than all clients did at the end."""
    scores = {1: 0.2, 2: 0.3, 3: 0.9}

    def reply(task: RoundTask) -> list[ClientUpdate]:
        return [good(task, c, float(task.round), scores.get(task.round, 0.1)) for c in CLIENTS]

    run(tmp_path, reply, num_rounds=2)
    scores[3] = 0.1
    run(tmp_path, reply, num_rounds=4)
    summary = list(read_records(tmp_path))[-1]
    assert summary["best"]["round"] == 2
    assert torch.equal(read_folder(tmp_path / "adapter" / "best")[0]["w"], torch.full((3,), 2.0))
    assert torch.equal(read_folder(tmp_path / "adapter" / "last")[0]["w"], torch.full((3,), 4.0))


def test_scores_are_means_over_examples(tmp_path: Path) -> None:
    def reply(task: RoundTask) -> list[ClientUpdate]:
        held = {"site-1": {"vqa": Evaluation(1.0, 30, {})}, "site-2": {"vqa": Evaluation(0.0, 10, {})}}
        return [ClientUpdate(**{**good(task, c, 1.0).__dict__, "before": held[c], "after": {}}) for c in CLIENTS]

    run(tmp_path, reply, heldout=(30, 10))
    assert {r["heldout"] for r in read_records(tmp_path) if r["event"] == "round"} == {0.75}


def test_a_task_counts_for_those_who_have_it(tmp_path: Path) -> None:
    """The score that selects is the mean over tasks; images drawn have no part in it."""

    def reply(task: RoundTask) -> list[ClientUpdate]:
        held = {
            "site-1": {"vqa": Evaluation(1.0, 30, {}), "t2i": Evaluation(0.5, 10, {}, 4.0)},
            "site-2": {"t2i": Evaluation(0.1, 30, {}, 6.0)},
        }
        return [ClientUpdate(**{**good(task, c, 1.0).__dict__, "before": held[c], "after": {}}) for c in CLIENTS]

    drawn = Evaluation(0.75, 8, {"colors": (0.5, 6), "counting": (1.0, 2)})
    run(
        tmp_path,
        reply,
        lambda task: {"geneval": drawn} if task.draw else {},
        heldout=(40, 30),
        task="unified",
        geneval_prompts=8,
    )
    rounds = [r for r in read_records(tmp_path) if r["event"] in ("round", "final")]
    for record in rounds:
        assert record["heldout"] == pytest.approx((1.0 + (0.5 * 10 + 0.1 * 30) / 40) / 2)
        tasks = record["heldout_tasks"]
        assert tasks["vqa"] == {"score": 1.0, "count": 30, "parts": {}}
        assert (tasks["t2i"]["count"], tasks["t2i"]["loss"]) == (40, pytest.approx(5.5))
        assert record["test"] is None
    drawings = [record["test_tasks"].get("geneval") for record in rounds]
    assert drawings[0] == drawings[-1] == {"score": 0.75, "count": 8, "parts": {"colors": 0.5, "counting": 1.0}}
    assert drawings[1:-1] == [None] * (len(rounds) - 2)


@pytest.mark.parametrize(
    "scores",
    [
        {"x": Evaluation(0.5, 5, {})}, {"geneval": Evaluation(0.5, 5, {})}, {"vqa": Evaluation(math.nan, 5, {})},
        {"vqa": Evaluation(0.5, 10**400, {})}, {"vqa": Evaluation(0.5, 5, {"x": (math.inf, 5)})},
    ],
)  # fmt: skip
def test_a_host_with_strange_test_scores_counts_for_none(tmp_path: Path, scores: Scores) -> None:
    run(tmp_path, lambda task: [good(task, c, 1.0) for c in CLIENTS], lambda _: scores)
    assert {r["test"] for r in read_records(tmp_path) if r["event"] in ("round", "final")} == {None}


@pytest.mark.parametrize(("every", "rounds"), [(0, [1, 6]), (2, [1, 3, 5, 6]), (1, [1, 2, 3, 4, 5, 6])])
def test_images_are_drawn_as_often_as_asked(tmp_path: Path, every: int, rounds: list[int]) -> None:
    drawn: list[int] = []

    def reply(task: RoundTask) -> list[ClientUpdate]:
        drawn.extend([task.round] * task.draw)
        return [good(task, c, 1.0) for c in CLIENTS]

    run(tmp_path, reply, num_rounds=5, geneval_every=every)
    assert drawn == rounds


BOTH = {"a": torch.zeros(2), "b": torch.zeros(2), "c": torch.full((2,), 7.0)}


def test_a_client_weighs_only_where_it_trained(tmp_path: Path) -> None:
    """site-1 trains a and b, site-2 only a, and nobody c: b is site-1's, and c stays as it was."""
    sent = {"site-1": {"a": 2.0, "b": 3.0}, "site-2": {"a": 6.0}}

    def reply(task: RoundTask) -> list[ClientUpdate]:
        return [
            ClientUpdate(**{
                **good(task, c, 0.0).__dict__,
                "adapter": pack({n: torch.full((2,), v) for n, v in sent[c].items()}, "float32", spec_of(BOTH)),
                "untrained": sorted(BOTH.keys() - sent[c].keys()),
            })
            for c in CLIENTS
        ]  # fmt: skip

    server = run(tmp_path, reply, start=BOTH, num_rounds=1)
    assert {name: tensor.tolist() for name, tensor in server.adapter.items()} == {
        "a": [(30 * 2.0 + 10 * 6.0) / 40] * 2, "b": [3.0] * 2, "c": [7.0] * 2,
    }  # fmt: skip
    assert read_folder(tmp_path / "adapter" / "last")[0].keys() == BOTH.keys()
