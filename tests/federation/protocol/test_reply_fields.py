"""What hosts answer: every field of the wrong kind or size is one clear reason, of one client where it is its own."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from fedumm.features.report import CacheReport
from fedumm.federation.protocol.messages import ClientUpdate, DataStats, HostError, InitReply, Message, RoundReply
from fedumm.federation.protocol.wire import from_wire, to_wire
from fedumm.metrics.evaluation import Evaluation

SIZES = DataStats({"site-1": {"train": 1, "heldout": 0, "tasks": {"vqa": 1}, "labels": {"yes": 1}}}, "iid", "f")
READY = InitReply(
    spec={"w": ((2, 3), "float32")},
    adapter_config={"r": 4},
    trainable=6,
    total=9,
    adapter=b"x",
    test_samples=3,
    cache=[CacheReport("codes", "disk", 9, 2, 1)],
    device="cpu",
)
UPDATE = ClientUpdate(
    client="site-1",
    round=3,
    adapter=b"a",
    untrained=["w"],
    num_samples=2,
    steps=1,
    train_loss=0.5,
    train_losses={"t2i": 0.5},
    before={"vqa": Evaluation(0.5, 2, {"x": (0.5, 2)})},
    after={"i2t": Evaluation(0.5, 2, {"x": (0.5, 2)}, None, {"cider": 1.5})},
)
REPLY = RoundReply([UPDATE], {"t2i": Evaluation(0.1, 9, {}, 5.5)}, 1.0, ["Out of memory"], 1e-7)
OWN = to_wire(REPLY)["updates"][0]
STRANGE: list[Any] = [
    None,
    True,
    3,
    -1,
    2.5,
    float("nan"),
    10**400,
    "text",
    "\ud800",
    b"bytes",
    [],
    {},
    [[]],
    {"a": []},
]


def told(data: dict[str, Any]) -> str:
    """What is said of a bad message, or of the bad update in it."""
    try:
        reply = from_wire(data)
    except ValueError as error:
        return str(error)
    return reply.updates[0].error if isinstance(reply, RoundReply) else ""


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a message, whole parts of it too."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return [path] * bool(path) + [p for key, one in inner for p in places(one, (*path, key))]


def placed(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    data = list(data) if isinstance(data, list | tuple) else dict(data)
    data[path[0]] = placed(data[path[0]], path[1:], value)
    return data


def typed(value: Any) -> Any:
    """The shape of a message: what stands where, by its type."""
    if isinstance(value, dict):
        return dict
    return list if isinstance(value, list | tuple) else float if isinstance(value, int | float) else type(value)


@pytest.mark.parametrize("message", [SIZES, READY, REPLY, HostError("no", "trace")], ids=lambda m: type(m).__name__)
def test_in_every_place_another_type_is_refused_or_its_clients_failure(message: Message) -> None:
    data = to_wire(message)
    for path in places({k: v for k, v in data.items() if k != "kind"}):
        own = data
        for key in path:
            own = own[key]
        for strange in STRANGE:
            if typed(strange) == typed(own) or (strange is None and path[-1] in ("loss", "folding_error")):
                continue
            if path[0] == "adapter_config" or (path[-1] == "loss" and isinstance(strange, int | float)):
                continue
            found = told(placed(data, path, copy.deepcopy(strange)))
            its_own = path[0] == "updates" and len(path) > 2 and path[2] != "client"
            assert found.startswith("not an update: " if its_own else "not a message: "), (path, strange)
            assert len(found) < 600
            found.encode()


@pytest.mark.parametrize(
    ("message", "field", "value", "reason"),
    [
        (REPLY, "updates", [{**OWN, "num_samples": 10**400}], "num_samples is not a whole number"),
        (REPLY, "updates", [{**OWN, "strange": 1}], "not an update: has a field too many: strange"),
        (READY, "adapter_config", {"r": 0}, "adapter_config r is not a whole number of 1 to"),
        (READY, "adapter_config", {"lora_alpha": float("inf")}, "lora_alpha is not a positive number"),
        (READY, "adapter_config", {"x": "\x1b[2J"}, "adapter_config holds a text that no option can have"),
        (READY, "adapter_config", {"x": [[[[[[[[1]]]]]]]]}, "adapter_config is too large"),
        (READY, "device", b"cpu", "device is not a text"),
        (READY, "total", 0, "total is not a whole number of 1 to"),
        (READY, "test_samples", 10**10, "test_samples is not a whole number of 0 to 1000000000"),
        (READY, "spec", {"w": [[2, 3], "nn"]}, "spec w is none of those that there are"),
        (READY, "spec", {"w": [[2**31] * 8, "float32"]}, "spec w is too large"),
        (READY, "spec", {"w\n": [[2], "float32"]}, r"a name in it is not a name: w\n"),
        (REPLY, "updates", [{}] * 1_000_000, "updates holds 1000000 things, more than 100000"),
        (REPLY, "updates", [{"client": 3}], "updates entry 1 has no client's name"),
    ],
)  # fmt: skip
def test_one_clear_reason(message: Message, field: str, value: Any, reason: str) -> None:
    found = told({**to_wire(message), field: value})
    assert reason in found
    assert len(found) < 200


def test_a_lone_surrogate_does_not_stop_what_carries_messages() -> None:
    sent = to_wire(
        RoundReply(
            [
                ClientUpdate(client="site-1", round=1, error="\ud800"),
                ClientUpdate(client="site-2", round=1, error="\x1b[2J"),
            ]
        )
    )
    assert sent["updates"][0]["error"].encode() == rb"\ud800"
    taken = from_wire(sent)
    assert isinstance(taken, RoundReply)
    assert [update.error for update in taken.updates] == [r"\ud800", r"\x1b[2J"]


def test_labels_that_look_the_same_are_counted_together() -> None:
    clients = {"site-1": {"train": 3, "heldout": 0, "tasks": {"vqa": 3}, "labels": {"a\n": 1, r"a\n": 2}}}
    taken = from_wire(to_wire(DataStats(clients, "iid", "f")))
    assert isinstance(taken, DataStats)
    assert taken.clients["site-1"]["labels"] == {r"a\n": 3}


def test_the_details_of_an_error_keep_their_lines_and_their_end() -> None:
    taken = from_wire(to_wire(HostError("\x1b[2J" + "x" * 10**6, "Traceback\n" * 10**5 + "\x1bValueError")))
    assert isinstance(taken, HostError)
    assert taken.message.startswith(r"\x1b[2Jxxx")
    assert len(taken.message) == 500
    assert taken.details.endswith("Traceback\n\\x1bValueError")
    assert len(taken.details) < 20_010
