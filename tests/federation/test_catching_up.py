"""Hosts of real sites that were started again, missed a round, or could not begin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedumm.errors import FedummError
from fedumm.federation.protocol.messages import (
    DataStatsRequest,
    HostError,
    InitRequest,
    Message,
    RoundReply,
    RoundTask,
)
from support.sites import ROUNDS, SITES, Sites


def restarted(number: int) -> Callable[[str, Message, Sites], Message | None]:
    """The second site's host is a new one when the round comes for the first time."""
    done = []

    def before(site: str, message: Message, sites: Sites) -> None:
        if site == "site-2" and isinstance(message, RoundTask) and message.round == number and not done:
            done.append(True)
            sites.hosts[site] = sites.new(site)

    return before


def answering_otherwise(number: int, asked: type[Message], **other: Any) -> Callable[[str, Message, Sites], Any]:
    """The second site's host is a new one in a round, and answers then with other values to one kind of question."""
    again = restarted(number)

    def before(site: str, message: Message, sites: Sites) -> Message | None:
        again(site, message, sites)
        if site == "site-2" and isinstance(message, asked) and len(sites.asked) > 4:
            return replace(sites.hosts[site].handle(message), **other)  # type: ignore[type-var]
        return None

    return before


METHODS: list[dict[str, Any]] = [
    {},
    {"wire": "int8", "scaffold": True},
    {"aggregator": "flora"},
    *(
        pytest.param(own, marks=pytest.mark.slow)
        for own in (
            {"aggregator": "fedex_lora"},
            {"aggregator": "fedsa_lora"},
            {"aggregator": "svd", "lora_r": "4,site-2=2", "wire": "bfloat16"},
        )
    ),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: "-".join(map(str, method.values())) or "fedavg")
def test_a_host_that_is_started_again_changes_no_bit(tmp_path: Path, method: dict[str, Any]) -> None:
    """In the first, a middle and the last round that trains, and when the last version is scored."""
    undisturbed = Sites(tmp_path / "undisturbed", **method).run()
    for number in (1, 3, ROUNDS + 1):
        run = Sites(tmp_path / f"again-{number}", restarted(number), **method).run()
        assert run.weights() == undisturbed.weights()
        assert [r["clients"] for r in run.records("round")] == [2] * ROUNDS
        assert [r["test"] for r in run.records("round")] == [r["test"] for r in undisturbed.records("round")]
        told = [type(message) for site, message in run.asked if site == "site-2"]
        assert told.count(InitRequest) == 2
        assert told.count(RoundTask) == ROUNDS + 2


def test_what_it_was_sent_to_catch_up_is_counted(tmp_path: Path) -> None:
    plain = Sites(tmp_path / "plain", aggregator="flora").run()
    again = Sites(tmp_path / "again", restarted(3), aggregator="flora").run()
    tasks = [m for site, m in again.asked if site == "site-2" and isinstance(m, RoundTask) and m.round == 3]
    (setup,) = [m for site, m in again.asked if site == "site-2" and isinstance(m, InitRequest) and m.changes]
    assert len(setup.changes) == 2
    extra = tasks[1].size + sum(map(len, setup.changes))
    first, second = plain.records("round")[2], again.records("round")[2]
    assert second["bytes_down"] == first["bytes_down"] + extra


@pytest.mark.parametrize("aggregator", ["fedavg", "flora"])
def test_a_host_that_missed_a_round_is_back_in_the_next(tmp_path: Path, aggregator: str) -> None:
    """As it would be if nobody had been away but the others' bits are those of a run without it in that round."""

    def silent(site: str, message: Message, _: Sites) -> Message | None:
        missed = isinstance(message, RoundTask) and message.round == 2
        return HostError("no answer") if missed and site == "site-2" else None

    def silent_and_new(site: str, message: Message, sites: Sites) -> Message | None:
        if site == "site-2" and isinstance(message, RoundTask) and message.round == 3 and not started:
            started.append(site)
            sites.hosts[site] = sites.new(site)
        return silent(site, message, sites)

    started: list[str] = []
    one = Sites(tmp_path / "one", silent, aggregator=aggregator).run()
    other = Sites(tmp_path / "other", silent_and_new, aggregator=aggregator).run()
    assert started
    for run in (one, other):
        notes = [(r["host"], r["round"]) for r in run.records("note") if "part of the common test" in r["text"]]
        assert notes == [("site-2", 2)]
        assert len({r["test_tasks"]["vqa"]["count"] for r in run.records("round")}) == 2, "of fewer rows in that round"
        assert [r["clients"] for r in run.records("round")] == [2, 1, 2, 2]
        (rejected,) = [r for r in run.records("client") if r["rejected"]]
        assert (rejected["client"], rejected["round"], rejected["reason"]) == ("site-2", 2, "no answer")
    assert one.weights() == other.weights()


def test_a_host_that_comes_back_with_other_data_is_refused(tmp_path: Path) -> None:
    other = answering_otherwise(3, DataStatsRequest, fingerprint="another")
    run = Sites(tmp_path / "run", other).run()
    assert [r["clients"] for r in run.records("round")] == [2, 2, 1, 1]
    reasons = {r["reason"] for r in run.records("client") if r["rejected"]}
    assert reasons == {"its data are not those that it began with"} == {r["reason"] for r in run.records("left_out")}
    assert sum(isinstance(m, RoundTask) for site, m in run.asked if site == "site-2") == 3, "it is asked no more"


def test_a_host_that_comes_back_with_another_model_is_refused(tmp_path: Path) -> None:
    run = Sites(tmp_path / "run", answering_otherwise(2, InitRequest, digest="another")).run()
    assert [r["clients"] for r in run.records("round")] == [2, 1, 1, 1]
    reasons = {r["reason"] for r in run.records("client") if r["rejected"]}
    assert reasons == {"it differs in the first adapter: --seed or the libraries' versions differ."}


def test_with_local_privacy_no_round_is_answered_twice(tmp_path: Path) -> None:
    """One that was put on record before the process died is lost, and the next one is answered."""
    private = {"dp": "local", "dp_noise_multiplier": 1.0, "client_weights": "equal", "aggregator": "ffa_lora"}
    answered: list[int] = []

    def dies(site: str, message: Message, sites: Sites) -> Message | None:
        if site == "site-2" and isinstance(message, RoundTask) and message.round == 2 and not answered:
            answered.append(2)
            sites.hosts[site].handle(message)
            sites.hosts[site] = sites.new(site)
        return None

    run = Sites(tmp_path / "run", dies, **private).run()
    assert [r["clients"] for r in run.records("round")] == [2, 1, 2, 2]
    (rejected,) = [r for r in run.records("client") if r["rejected"]]
    assert "its noise would be spent twice" in rejected["reason"]


def test_with_local_privacy_and_data_of_its_own_a_site_sends_its_noisy_update_alone(tmp_path: Path) -> None:
    """No score on its own test rows, and no duration."""
    private = {"dp": "local", "dp_noise_multiplier": 1.0, "client_weights": "equal", "aggregator": "ffa_lora"}
    sent: list[RoundReply] = []

    def watched(site: str, message: Message, sites: Sites) -> Message | None:
        answer = sites.hosts[site].handle(message)
        sent.extend([answer] if isinstance(answer, RoundReply) else [])
        return answer

    run = Sites(tmp_path / "run", watched, partition="own", dirichlet_alpha=0.0, **private).run()
    assert len(sent) == 2 * (ROUNDS + 1)
    for answer in sent:
        assert (answer.test, answer.seconds, answer.notes) == ({}, 0.0, [])
        for update in answer.updates:
            assert (update.before, update.after, update.seconds_train, update.train_losses) == ({}, {}, 0.0, {})
    assert {r["test"] for r in run.records("round")} == {None}


@pytest.mark.parametrize("fewest", [1, 2])
def test_a_site_that_can_not_begin_is_left_out(tmp_path: Path, fewest: int) -> None:
    def refuses(site: str, message: Message, _: Sites) -> Message | None:
        known = isinstance(message, DataStatsRequest) and site == "site-1"
        return HostError("This site does not allow it.") if known else None

    sites = Sites(tmp_path / "run", refuses, min_clients=fewest)
    if fewest == 2:
        with pytest.raises(FedummError, match=r"1 of 2 clients .* --min_clients is 2.\s+site-1: This site does not"):
            sites.run()
        return
    sites.run()
    assert sites.records("left_out") == [
        {"event": "left_out", "host": "site-1", "reason": "This site does not allow it."}
    ]
    assert [r["clients"] for r in sites.records("round")] == [1] * ROUNDS
    assert {site for site, message in sites.asked if not isinstance(message, DataStatsRequest)} == {"site-2"}
    assert sites.records("summary")[0]["roster"] == 1


def test_a_host_that_comes_back_with_other_test_rows_is_refused(tmp_path: Path) -> None:
    """A billion of them would make the common test its own."""
    run = Sites(tmp_path / "run", answering_otherwise(3, InitRequest, test_samples=10**9)).run()
    assert [r["reason"] for r in run.records("left_out")] == ["its test rows are not those that it began with"]
    assert [r["clients"] for r in run.records("round")] == [2, 2, 1, 1]


def test_one_that_is_refused_is_not_drawn_any_more(tmp_path: Path) -> None:
    other = answering_otherwise(1, InitRequest, digest="another")
    run = Sites(tmp_path / "run", other, clients_per_round=1, min_clients=1).run()
    assert len(run.records("round")) == ROUNDS
    trained = [m.assignments for site, m in run.asked if site == "site-1" and isinstance(m, RoundTask) and m.round > 2]
    assert all(not own["site-2"] for own in trained)


@pytest.mark.parametrize("late", SITES)
def test_a_site_that_is_not_ready_is_set_up_in_the_first_round(tmp_path: Path, late: str) -> None:
    """Also the one whose first adapter was to be everybody's; the bits are those of a run in which all were ready."""
    failed: list[str] = []

    def no_memory(site: str, message: Message, _: Sites) -> Message | None:
        if site == late and isinstance(message, InitRequest) and not failed:
            failed.append(site)
            return HostError("memory: it ran out of memory.")
        return None

    plain = Sites(tmp_path / "plain").run()
    run = Sites(tmp_path / "run", no_memory).run()
    assert run.records("not_ready") == [{"event": "not_ready", "host": late, "reason": "memory: it ran out of memory."}]
    assert run.weights() == plain.weights()
    assert [r["test"] for r in run.records("round")] == [r["test"] for r in plain.records("round")]
