"""Sides of other protocols do not go on with each other; other libraries are told of."""

from __future__ import annotations

from typing import Any

import pytest

from fedumm import __version__
from fedumm.errors import PublicError
from fedumm.federation.protocol.messages import DataStatsRequest, RoundTask, TensorPayload
from fedumm.federation.protocol.versions import PROTOCOL, own_versions, version_notes
from fedumm.federation.protocol.wire import from_wire, to_wire


def test_a_server_says_what_it_is_made_of() -> None:
    sent = to_wire(DataStatsRequest(["site-1"]))
    assert sent["versions"]["protocol"] == str(PROTOCOL)
    assert sent["versions"]["fedumm"] == __version__
    assert {"torch", "transformers", "peft", "nvflare"} <= sent["versions"].keys()
    assert from_wire(sent) == DataStatsRequest(["site-1"])


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({"protocol": str(PROTOCOL + 1), "fedumm": "9.1"}, f"protocol {PROTOCOL + 1} (fedumm 9.1)"),
        ({}, "no numbered protocol"),
        (None, "no numbered protocol"),
        ({"protocol": "\x1b[2J\n"}, "\\x1b[2J"),
    ],
)
def test_a_host_refuses_a_server_of_another_protocol(versions: Any, said: str) -> None:
    """Whatever else stands in its first message."""
    sent = {**to_wire(DataStatsRequest(["site-1"])), "versions": versions, "of_the_future": 1}
    with pytest.raises(PublicError, match="install the same fedumm on both") as refusal:
        from_wire(sent)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_one_that_says_nothing_is_refused() -> None:
    sent = to_wire(DataStatsRequest(["site-1"]))
    del sent["versions"]
    with pytest.raises(PublicError):
        from_wire(sent)


def test_later_messages_need_no_number() -> None:
    task = RoundTask(round=1, train=True, adapter=TensorPayload("values", b""), assignments={})
    assert from_wire(to_wire(task)) == task


def test_hosts_with_other_versions_are_named() -> None:
    own = own_versions()
    major, minor, _ = own["fedumm"].split(".")
    hosts = {
        "alike": own,
        "patch": {**own, "fedumm": f"{major}.{minor}.99", "torch": own["torch"].partition("+")[0] + "+cu130"},
        "minor": {**own, "fedumm": f"{major}.{int(minor) + 1}.0"},
        "library": {**own, "peft": "0.1.0", "datasets": "0.0"},
        "silent": {"protocol": str(PROTOCOL)},
    }
    notes = version_notes(hosts)
    assert notes.keys() == {"minor", "library", "silent"}
    assert f"peft 0.1.0 (here {own['peft']})" in notes["library"]
    assert "datasets" not in notes["library"]
    assert "torch (unknown)" in notes["silent"]
