"""Before the first round: hosts must agree on data and adapter, and clients are dealt out to them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fedumm.adapters import encode, spec_of
from fedumm.errors import FedummError
from fedumm.features.report import CacheReport
from fedumm.federation.protocol.initial_adapter import adapter_digest
from fedumm.federation.protocol.messages import DataStats, HostError, InitReply
from fedumm.federation.runners.round_loop import drive
from fedumm.federation.server.server import Server
from support.toy import together, toy_config

START = {"w": torch.zeros(3)}


def two_hosts(folder: Path) -> Server:
    return Server(
        toy_config(num_clients=2),
        {"host-1": ["site-1"], "host-2": ["site-2"]},
        folder / "state",
    )


def sizes(fingerprint: str = "print", **train: int) -> DataStats:
    """A survey's answer: ``site_1=5`` gives site-1 five rows."""
    rows = {"site_1": 5, "site_2": 5, **train}
    clients = {
        c.replace("_", "-"): {"train": n, "heldout": 1, "tasks": {"vqa": n}, "labels": {"yes": n}}
        for c, n in rows.items()
    }
    return DataStats(clients, "iid", fingerprint)


def test_hosts_with_other_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FedummError, match="host-2 has different data"):
        two_hosts(tmp_path).setup({"host-1": sizes(), "host-2": sizes("another")})


def test_a_host_that_counts_clients_otherwise_is_refused(tmp_path: Path) -> None:
    """Its own or others': sizes decide what a client weighs, and how far it may move."""
    for lie in (sizes(site_2=10**9), sizes(site_1=6)):
        with pytest.raises(FedummError, match="host-2 has different data"):
            two_hosts(tmp_path).setup({"host-1": sizes(), "host-2": lie})
    with pytest.raises(FedummError, match="site-2 reports an invalid number of training samples"):
        two_hosts(tmp_path).setup({"host-1": sizes(site_2=10**12), "host-2": sizes(site_2=10**12)})


def test_a_damaged_first_adapter_is_refused(tmp_path: Path) -> None:
    server = two_hosts(tmp_path)
    server.setup({"host-1": sizes(), "host-2": sizes()})
    bad = InitReply(
        spec=spec_of(START),
        adapter_config={},
        trainable=3,
        total=9,
        adapter=encode({"w": torch.tensor([0.0, math.nan, 0.0])}),
        test_samples=0,
        cache=[CacheReport()],
        device="cpu",
    )
    with pytest.raises(FedummError, match="The first adapter is damaged: w holds NaN"):
        server.start({"host-1": bad, "host-2": replace(bad, adapter=b"")})


def test_hosts_with_another_adapter_are_refused(tmp_path: Path) -> None:
    server = two_hosts(tmp_path)
    server.setup({"host-1": sizes(), "host-2": sizes()})
    first = InitReply(
        spec=spec_of(START),
        adapter_config={},
        trainable=3,
        total=9,
        adapter=encode(START),
        test_samples=0,
        cache=[CacheReport()],
        device="cpu",
        digest=adapter_digest(START),
    )
    second = InitReply(
        spec={"w": ((4,), "float32")},
        adapter_config={},
        trainable=4,
        total=9,
        adapter=b"",
        test_samples=0,
        cache=[CacheReport()],
        device="cpu",
    )
    with pytest.raises(FedummError, match="host-1, host-2 differ in the adapter's shape"):
        server.start({"host-1": first, "host-2": second})


def test_simulated_clients_are_dealt_out_by_size(tmp_path: Path) -> None:
    train = {"site_1": 3728, "site_2": 7681, "site_3": 7512, "site_4": 15789}
    layout = {"host-1": ["site-1", "site-3"], "host-2": ["site-2", "site-4"]}
    for balance, expected in (
        (False, layout),
        (True, {"host-1": ["site-4"], "host-2": ["site-1", "site-2", "site-3"]}),
    ):
        server = Server(toy_config(num_clients=4), layout, tmp_path / "state", balance=balance)
        setup = server.setup({host: sizes(**train) for host in layout})
        assert setup.assignments == server.assignments == expected


def test_a_host_that_can_not_go_on_ends_the_run_with_its_words(tmp_path: Path) -> None:
    server = Server(
        toy_config(),
        {"host-1": ["site-1", "site-2", "site-3"]},
        tmp_path / "state",
    )
    with pytest.raises(FedummError, match="host-1: the disk is full"):
        drive(server, together(lambda _: {"host-1": HostError("the disk is full")}))
