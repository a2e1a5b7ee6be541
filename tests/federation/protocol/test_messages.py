"""Messages as bytes and back; what is no message is refused."""

from __future__ import annotations

from typing import Any

import pytest

from fedumm.features.report import CacheReport
from fedumm.federation.protocol.messages import (
    ClientUpdate,
    DataStats,
    DataStatsRequest,
    HostError,
    InitReply,
    InitRequest,
    Message,
    RoundReply,
    RoundTask,
    TensorPayload,
)
from fedumm.federation.protocol.wire import from_wire, to_wire
from fedumm.metrics.evaluation import Evaluation

MESSAGES: list[Message] = [
    DataStatsRequest(["site-1", "site-2"]),
    DataStats({"site-1": {"train": 1, "heldout": 0, "tasks": {"vqa": 1}, "labels": {"yes": 1}}}, "iid", "f"),
    InitRequest({"host-1": ["site-1"]}, {"host-1": [0, 1]}, "host-1"),
    InitReply(
        spec={"w": ((2, 3), "float32")},
        adapter_config={},
        trainable=6,
        total=9,
        adapter=b"x",
        test_samples=3,
        cache=[CacheReport("codes", "disk", 9, 2, 1)],
        device="cpu",
    ),
    RoundTask(
        round=3,
        train=True,
        adapter=TensorPayload("delta", b"abc"),
        assignments={"host-1": ["site-1"]},
        draw=True,
        factors="B",
        change=b"d",
        control=TensorPayload("whole", b"e"),
        last_accepted_round={"site-1": 2},
    ),
    RoundTask(round=3, train=False, adapter=TensorPayload("values", b""), assignments={}),
    RoundReply(
        [
            ClientUpdate(
                client="site-1",
                round=3,
                adapter=b"a",
                untrained=["w"],
                num_samples=2,
                steps=1,
                train_loss=0.5,
                train_losses={"t2i": 0.5},
                before={"vqa": Evaluation(0.5, 2, {"x": (0.5, 2)})},
            )
        ],
        {"t2i": Evaluation(0.1, 9, {}, 5.5), "geneval": Evaluation(0.2, 8, {"colors": (0.2, 8)})},
    ),
    RoundReply([], {}, 1.5, ["Out of memory"]),
    RoundReply([], {}, 1.5, [], 1e-7),
    HostError("no", "trace"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_messages_survive_the_wire(message: Message) -> None:
    assert from_wire(to_wire(message)) == message


@pytest.mark.parametrize(
    "data",
    [
        {}, {"kind": "Nonsense"}, {"kind": "RoundTask"}, {"kind": "HostError", "message": "a", "extra": 1},
        {"kind": "RoundReply", "updates": [{}], "test": {}, "notes": [], "folding_error": None},
        {"kind": "RoundReply", "updates": None, "test": {}, "notes": [], "folding_error": None},
        {"kind": "RoundReply", "updates": [{"round": 2}], "test": {}, "seconds": 1.0, "notes": [],
         "folding_error": None},
        {"kind": "RoundReply", "updates": [], "test": {}, "seconds": 1.0, "notes": [3], "folding_error": None},
        {"kind": "RoundReply", "updates": [], "test": {}, "seconds": 1.0, "notes": 3, "folding_error": None},
        {**to_wire(MESSAGES[6]), "test": {"t2i": {"score": 1.0, "count": 2, "parts": {}}}},
        {"kind": "InitReply", "spec": 3},
        {"kind": "RoundReply", "updates": [], "test": {}, "seconds": 10**400, "notes": [], "folding_error": None},
        {"kind": "RoundReply", "updates": [], "test": {}, "seconds": 1.0, "notes": [], "folding_error": "much"},
        {"kind": "DataStats", "clients": {"a": {"train": "x"}}, "method": "iid", "fingerprint": "f"},
        {"kind": "DataStats", "method": "iid", "fingerprint": "f",
         "clients": {"a": {"train": 1, "heldout": 1, "tasks": {"vqa": 1, "zzz": 0}, "labels": {}}}},
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a message"):
        from_wire(data)


def test_a_malformed_update_is_that_clients_failure_alone() -> None:
    data = to_wire(MESSAGES[6])
    good, (bad,) = MESSAGES[6], data["updates"]
    for fields in ({"num_samples": "2"}, {"adapter": "x"}, {"train_loss": None}, {"before": 3}, {"strange": 1}):
        message = from_wire({**data, "updates": [{**bad, **fields}, bad]})
        assert isinstance(message, RoundReply)
        assert isinstance(good, RoundReply)
        assert message.updates[0].error.startswith("not an update")
        assert message.updates[1] == good.updates[0]
