"""Masks are asked for in the round that comes next, of a host's own clients, and in a run that has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedumm.federation.client.host import Host
from fedumm.federation.protocol.mask_messages import (
    MaskKeys,
    MaskKeysRequest,
    MaskRequest,
    MaskSharesRequest,
    UnmaskRequest,
)
from fedumm.federation.protocol.messages import SETUP, DataStatsRequest, HostError, InitRequest, Message
from fedumm.federation.protocol.wire import from_wire, to_wire
from fedumm.federation.runners.flare.site_identity import read_identity
from fedumm.plugins import load_plugins
from support.certificates import write_startup
from support.toy import lora_options, toy_config

ROSTER = ["site-1", "site-2"]


def host_of(folder: Path, **options: bool) -> Host:
    config = toy_config(**lora_options(num_clients=2, num_rounds=3, **options))
    load_plugins(config.plugins)
    own = read_identity(write_startup(folder / "startup", "site-1"), "site-1", "run")
    return Host("site-1", config, lambda *_: None, folder, identity=own)


def say(host: Host, message: Message) -> Message:
    return from_wire(to_wire(host.handle(from_wire(to_wire(message)))))


def set_up(host: Host) -> Host:
    say(host, DataStatsRequest(ROSTER))
    own = {name: [name] for name in ROSTER}
    say(host, InitRequest(own, {name: [place, 2] for place, name in enumerate(ROSTER)}, "site-1"))
    return host


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return set_up(host_of(tmp_path_factory.mktemp("host"), secure_aggregation=True))


@pytest.mark.parametrize(
    "request_of",
    [MaskKeysRequest(1, {"site-1": ["site-1"]}), MaskSharesRequest(1, {}, 2), UnmaskRequest(1, [], {})],
)
def test_a_new_host_asks_to_be_set_up(request_of: MaskRequest, tmp_path: Path) -> None:
    answer = say(host_of(tmp_path, secure_aggregation=True), request_of)
    assert isinstance(answer, HostError)
    assert answer.needs == SETUP


def test_without_the_option_there_are_none(tmp_path: Path) -> None:
    answer = say(set_up(host_of(tmp_path)), MaskKeysRequest(1, {"site-1": ["site-1"]}))
    assert isinstance(answer, HostError)
    assert "without --secure_aggregation" in answer.message


def test_keys_are_this_hosts_clients_alone(ready: Host) -> None:
    answer = say(ready, MaskKeysRequest(1, {"site-1": ["site-1"], "site-2": ["site-2"]}))
    assert isinstance(answer, MaskKeys)
    assert answer.keys.keys() == {"site-1"}


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (MaskKeysRequest(0, {"site-1": ["site-1"]}), "not the next"),
        (MaskKeysRequest(4, {"site-1": ["site-1"]}), "not the next"),
        (MaskKeysRequest(1, {"site-1": ["site-2"]}), "not a client of"),
        (MaskKeysRequest(1, {"site-1": ["../x"]}), "no name"),
        (MaskKeysRequest(1, {"site-1": ["site-1", "site-1"]}), "twice"),
        (MaskSharesRequest(2, {}, 2), "no keys"),
        (UnmaskRequest(2, [], {}), "no keys"),
    ],
)
def test_other_questions_are_refused(message: MaskRequest, why: str, ready: Host) -> None:
    answer = say(ready, message)
    assert isinstance(answer, HostError)
    assert why in answer.message
