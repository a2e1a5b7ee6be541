"""A site that begins otherwise than the others is left out and named, and the others' run is one without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedumm.adapters import encode
from fedumm.errors import FedummError
from fedumm.federation.client.host import Host
from fedumm.federation.protocol.messages import InitReply, InitRequest, Message, RoundTask
from support.sites import ROUNDS, Sites

THREE = ("site-1", "site-2", "site-3")
OWN: dict[str, Any] = {"partition": "own", "dirichlet_alpha": 0.0, "num_rounds": 2}

Before = Callable[[str, Message, Sites], Message | None]


def answering(site: str, **other: Any) -> Before:
    """That site has other values when it is set up."""

    def before(name: str, message: Message, sites: Sites) -> Message | None:
        if name == site and isinstance(message, InitRequest):
            return replace(sites.hosts[name].handle(message), **other)  # type: ignore[type-var]
        return None

    return before


def doctored(site: str) -> Before:
    """That site sends another first adapter than it says it has, if it is asked for it."""

    def before(name: str, message: Message, sites: Sites) -> Message | None:
        if name != site or not isinstance(message, InitRequest):
            return None
        answer = sites.hosts[name].handle(message)
        assert isinstance(answer, InitReply)
        other = {key: torch.full(shape, 0.5) for key, (shape, _) in answer.spec.items()}
        return replace(answer, adapter=encode(other)) if answer.adapter else answer

    return before


@pytest.mark.parametrize("odd", ["site-1", "site-3"])
@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"digest": "another"}, "it differs from the others in the first adapter: --seed or the libraries' versions"),
        ({"spec": {"w": ((3,), "float32")}}, "it differs from the others in the adapter's shape"),
        ({"fingerprint": "f" * 32}, "it differs from the others in the frozen weights: the model is another one."),
        ({"adapter_config": {"r": 99}}, "it has an adapter of another rank or alpha than --lora_r and --lora_alpha."),
    ],
)
def test_it_is_left_out_and_the_others_go_on(tmp_path: Path, odd: str, other: dict[str, Any], why: str) -> None:
    """Also the one whose first adapter was to be everybody's."""
    run = Sites(tmp_path / "run", answering(odd, **other), THREE, **OWN).run()
    ((host, reason),) = [(r["host"], r["reason"]) for r in run.records("left_out")]
    assert (host, reason[: len(why)]) == (odd, why)
    never = Sites(tmp_path / "never", None, [site for site in THREE if site != odd], **OWN).run()
    assert run.weights() == never.weights()
    for event in ("round", "summary"):
        for found, expected in zip(run.records(event), never.records(event), strict=True):
            assert (found.get("test"), found["roster"]) == (expected.get("test"), 2)
    assert not run.records("note")
    assert not [site for site, message in run.asked if site == odd and isinstance(message, RoundTask)]


def test_one_whose_first_adapter_is_not_what_it_says_is_left_out(tmp_path: Path) -> None:
    run = Sites(tmp_path / "run", doctored("site-1"), THREE, **OWN).run()
    assert [(r["host"], r["reason"]) for r in run.records("left_out")] == [
        ("site-1", "The first adapter is not the one that all hosts derive.")
    ]
    assert run.weights() == Sites(tmp_path / "never", None, THREE[1:], **OWN).run().weights()


def test_of_one_data_set_its_share_is_nobodys(tmp_path: Path) -> None:
    run = Sites(tmp_path / "run", answering("site-2", digest="another"), THREE).run()
    assert [r["host"] for r in run.records("left_out")] == ["site-2"]
    assert [r["clients"] for r in run.records("round")] == [2] * ROUNDS
    assert {r["host"] for r in run.records("note")} == {"site-2"}, "its part of the common test set"


def test_without_a_majority_or_with_too_few_left_the_job_ends(tmp_path: Path) -> None:
    with pytest.raises(FedummError, match="site-1, site-2 differ in the first adapter"):
        Sites(tmp_path / "two", answering("site-2", digest="another")).run()
    with pytest.raises(FedummError, match=r"2 of 3 clients .* --min_clients is 3.\s+site-2: it differs from"):
        Sites(tmp_path / "three", answering("site-2", digest="another"), THREE, min_clients=3).run()


def test_a_site_tells_the_fingerprint_of_its_weights_and_comes_back_with_no_others(tmp_path: Path) -> None:
    told: list[InitReply] = []

    def before(site: str, message: Message, sites: Sites) -> Message | None:
        if site == "site-2" and isinstance(message, RoundTask) and message.round == 2 and len(told) == 2:
            sites.hosts[site] = sites.new(site)
        if not isinstance(message, InitRequest):
            return None
        answer = sites.hosts[site].handle(message)
        assert isinstance(answer, InitReply)
        told.append(answer)
        return replace(answer, fingerprint="f" * 32) if len(told) == 3 else answer

    run = Sites(tmp_path / "run", before).run()
    assert len(told) == 3
    assert len(told[0].fingerprint) == 32
    assert {answer.fingerprint for answer in told} == {told[0].fingerprint}
    (left,) = run.records("left_out")
    assert left["reason"] == (
        "it differs in the frozen weights: the model is another one. Their fingerprint is ffffffff..., not "
        f"{told[0].fingerprint[:8]}... (fedumm check-site shows it)."
    )


def test_simulated_hosts_share_their_files_and_tell_none(tmp_path: Path) -> None:
    run = Sites(tmp_path / "run")
    (tmp_path / "simulated").mkdir()
    host = Host("site-1", run.config, lambda *_: None, tmp_path / "simulated", simulated=True)
    host.handle(run.server.survey())
    served = {"site-1": ["site-1"], "site-2": ["site-2"]}
    request = InitRequest(served, {"site-1": [0, 2], "site-2": [1, 2]}, "site-1")
    answer = host.handle(request)
    assert isinstance(answer, InitReply)
    assert answer.fingerprint == ""
