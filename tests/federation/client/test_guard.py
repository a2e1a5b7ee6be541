"""A server that breaks the rules: a host does nothing but what the run's options call for, and nothing twice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedumm.adapters import decode, encode
from fedumm.compression.packing import pack, unpack
from fedumm.errors import FedummError
from fedumm.federation.client.host import Host
from fedumm.federation.protocol.backbone_delta import pack_backbone_delta
from fedumm.federation.protocol.messages import (
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
from fedumm.federation.protocol.names import check_name
from fedumm.federation.protocol.versions import own_versions
from fedumm.federation.protocol.wire import from_wire, to_wire
from fedumm.plugins import load_plugins
from support.toy import Driven, lora_options, toy_config

ROSTER = ["site-1", "site-2"]
LOCAL: dict[str, Any] = {"dp": "local", "dp_clip": 0.5, "dp_noise_multiplier": 20.0, "aggregator": "ffa_lora"}
Asked = tuple[Host, InitReply]


def host_of(folder: Path, simulated: bool = True, **options: Any) -> Host:
    """A host with LoRA's toy, named as a site is."""
    config = toy_config(**lora_options(**{"num_clients": 2, "num_rounds": 3, **options}))
    load_plugins(config.plugins)
    return Host("site-1", config, lambda *_: None, folder, simulated=simulated)


def say(host: Host, message: Message) -> Message:
    return host.handle(from_wire(to_wire(message)))


def refusal(host: Host, message: Message) -> str:
    answer = say(host, message)
    assert isinstance(answer, HostError), answer
    assert not answer.details, "refused, and not a failure"
    return answer.message


def set_up(host: Host) -> InitReply:
    assert isinstance(say(host, DataStatsRequest(ROSTER)), DataStats)
    ready = say(
        host, InitRequest({"site-1": ["site-1"], "site-2": ["site-2"]}, {"site-1": [0, 2], "site-2": [1, 2]}, "site-1")
    )
    assert isinstance(ready, InitReply), ready
    return ready


def task_of(host: Host, ready: InitReply, number: int = 1, **changes: Any) -> RoundTask:
    """An honest task."""
    factors = {"ffa_lora": "B"}.get(host.config.aggregator, "AB")
    task = RoundTask(
        round=number,
        train=number <= 3,
        adapter=TensorPayload("whole", ready.adapter),
        assignments={"site-1": ["site-1"]},
        factors=factors,
    )
    return replace(task, **changes)


def answered(host: Host, task: RoundTask) -> list[Any]:
    answer = say(host, task)
    assert isinstance(answer, RoundReply), answer
    return answer.updates


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    host = host_of(tmp_path / "clients")
    return host, set_up(host)


BAD_NAMES = ["", ".", "..", "...", "a/b", "/etc", "..\\x", "a b", "é", "a\n", "x" * 65, "a\0", "~", "a:b", "*"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "models"
    victim.mkdir()
    (victim / "model.safetensors").write_bytes(b"weights")
    for roster in ([name, "site-2"], ["site-1", name]):
        assert "no name of a site" in refusal(host_of(tmp_path / "clients"), DataStatsRequest(roster))
    with pytest.raises(FedummError):
        Host(name, host_of(tmp_path / "clients").config, lambda *_: None, tmp_path / "clients")
    host = host_of(tmp_path / "clients")
    ready = set_up(host)
    task = task_of(host, ready, assignments={"site-1": [name]})
    assert "is not a client of site-1" in refusal(host, task)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["model.safetensors"]


@given(st.text(max_size=70))
def test_what_passes_as_a_name_names_one_file_in_a_folder(name: str) -> None:
    try:
        check_name(name)
    except FedummError:
        return
    assert Path("folder", name).resolve().parent == Path("folder").resolve()
    assert name.isascii()
    assert name.isprintable()


def test_a_site_serves_itself_and_nobody_else(tmp_path: Path) -> None:
    assert "site-1 is not on the roster" in refusal(
        host_of(tmp_path, simulated=False), DataStatsRequest(["site-2", "site-3"])
    )
    for own in (["site-2"], ["site-1", "site-2"], []):
        host = host_of(tmp_path, simulated=False)
        say(host, DataStatsRequest(ROSTER))
        others = {"site-2": ["site-2"]} if own == ["site-1"] else {}
        assert "a site serves itself" in refusal(
            host, InitRequest({"site-1": own, **others}, {"site-1": [0, 1 + len(others)]}, "site-1")
        )
    set_up(host_of(tmp_path, simulated=False))


@pytest.mark.parametrize(
    ("roster", "why"),
    [
        (["site-1"], "a roster of 1 clients, where the run has 2 to 2"),
        ([f"site-{i}" for i in range(41)], "a roster of 41 clients"),
        (["site-1", "site-1"], "named twice"),
    ],
)
def test_the_roster_is_the_runs(tmp_path: Path, roster: list[str], why: str) -> None:
    assert why in refusal(host_of(tmp_path, min_clients=2), DataStatsRequest(roster))


def test_roster_and_places_stay(asked: Asked) -> None:
    host, _ = asked
    assert "another roster" in refusal(host, DataStatsRequest(["site-1", "site-3"]))
    moved = InitRequest({"site-1": ["site-1", "site-2"]}, {"site-1": [0, 1]}, "site-1")
    assert "another set-up" in refusal(host, moved)
    set_up(host)


BAD_SETUPS: list[tuple[InitRequest, str]] = [
    (InitRequest({"site-1": ["site-3"]}, {"site-1": [0, 1]}, "site-1"), "site-3 is not on the roster"),
    (InitRequest({"site-1": ["site-1"], "x": ["site-1"]}, {"site-1": [0, 2]}, "site-1"), "named twice"),
    (InitRequest({"x": ["site-1"]}, {"x": [0, 1]}, "x"), "site-1 has no part in the run"),
    (InitRequest({"site-1": ["site-1"]}, {"site-1": [0, 1]}, "x"), "site-1 has no part in the run"),
    (InitRequest({"site-1": ["site-1"]}, {"site-1": [1, 1]}, "site-1"), "not shared out"),
    (InitRequest({"site-1": ["site-1"]}, {"site-1": [-1, 1]}, "site-1"), "not shared out"),
    (InitRequest({"site-1": ["site-1"]}, {}, "site-1"), "not shared out"),
    (InitRequest({"site-1": ["site-1"]}, {"site-1": [0, 1]}, "site-1", [b"x"]), "never changes the backbone"),
]


@pytest.mark.parametrize(("setup", "why"), BAD_SETUPS)
def test_a_set_up_that_makes_no_sense(tmp_path: Path, setup: InitRequest, why: str) -> None:
    host = host_of(tmp_path)
    assert "before the survey" in refusal(host, setup)
    say(host, DataStatsRequest(ROSTER))
    assert why in refusal(host, setup)


GROWN = pack_backbone_delta({"first": (torch.ones(24, 1), torch.ones(1, 67))}, "float32")
BAD_TASKS: list[tuple[dict[str, Any], str]] = [
    ({"number": 0}, "not one of the 3"),
    ({"number": -1}, "not one of the 3"),
    ({"number": 5, "train": False}, "not one of the 3"),
    ({"number": 4, "train": True}, "not one of the 3"),
    ({"train": False}, "not one of the 3"),
    ({"assignments": {"site-1": ["site-2"]}}, "'site-2' is not a client"),
    ({"scorers": {"site-1": ["site-2"]}}, "'site-2' is not a client"),
    ({"last_accepted_round": {"site-1": 1}}, "a round that did not happen"),
    ({"last_accepted_round": {"site-1": -1}}, "a round that did not happen"),
    ({"factors": "A"}, "does not train A"),
    ({"factors": "everything"}, "does not train"),
    ({"change": GROWN}, "never changes the backbone"),
    ({"control": TensorPayload("values", b"")}, "without --scaffold"),
    ({"version": 1, "draw": True}, "not one to draw with"),
    ({"number": 4, "train": False, "version": 1, "assignments": {}}, "not one to draw with"),
    ({"number": 4, "train": False, "version": 3, "draw": True, "assignments": {}}, "not one to draw with"),
    ({"number": 4, "train": False, "version": -2, "draw": True, "assignments": {}}, "not one to draw with"),
    ({"number": 4, "train": False, "version": 1, "draw": True}, "has nothing for clients"),
]


@pytest.mark.parametrize(("changes", "why"), BAD_TASKS)
def test_what_the_options_do_not_call_for_is_refused_and_changes_nothing(
    asked: Asked, changes: dict[str, Any], why: str
) -> None:
    host, ready = asked
    assert why in refusal(host, task_of(host, ready, **changes))
    assert [u.error for u in answered(host, task_of(host, ready))] == [""]


@pytest.mark.parametrize("value", [1e30, float("nan"), float("inf"), -(2.0**21)])
def test_no_number_that_training_does_not_make(tmp_path: Path, value: float) -> None:
    host = host_of(tmp_path / "clients", aggregator="flora")
    ready = set_up(host)
    state = decode(ready.adapter)
    next(iter(state.values())).flatten()[0] = value
    assert "the server's adapter is invalid" in refusal(
        host, task_of(host, ready, adapter=TensorPayload("whole", encode(state)))
    )
    for left, right in (
        (torch.full((24, 1), value), torch.ones(1, 67)),
        (torch.ones(24, 1), torch.full((1, 67), value)),
    ):
        change = pack_backbone_delta({"first": (left, right)}, "float32")
        assert "the server's change of the backbone is invalid" in refusal(host, task_of(host, ready, change=change))
    # Names that differ at their end only.
    own = torch.ones(2, 1), torch.ones(1, 2)
    pairs = {f"{'x' * 99}1": (torch.full((2, 1), value), own[1]), f"{'x' * 99}2": own}
    change = pack_backbone_delta(pairs, "float32")
    assert "the server's change of the backbone is invalid" in refusal(host, task_of(host, ready, change=change))
    vector = pack_backbone_delta({"first": (torch.ones(24), torch.ones(67))}, "float32")
    assert "not a product of two matrices" in refusal(host, task_of(host, ready, change=vector))


def test_an_adapter_of_another_shape(asked: Asked) -> None:
    host, ready = asked
    state = decode(ready.adapter)
    state.pop(next(iter(state)))
    assert "the server's adapter is invalid" in refusal(
        host, task_of(host, ready, adapter=TensorPayload("whole", encode(state)))
    )


def test_rounds_go_forward(asked: Asked) -> None:
    """A round may be done again where no noise is spent, but none before it."""
    host, ready = asked
    for number in (1, 2, 2):
        answered(host, task_of(host, ready, number))
    assert "round 2 was answered" in refusal(host, task_of(host, ready, 1))


def mutated(change: Callable[[dict[str, Any]], None], message: Message) -> dict[str, Any]:
    data = to_wire(message)
    change(data)
    return data


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("round", True), ("round", "1"), ("round", 1.0), ("train", 1), ("assignments", []), ("factors", b"AB"),
        ("assignments", {"site-1": "site-1"}), ("assignments", {"site-1": [1]}), ("assignments", {1: []}),
        ("last_accepted_round", None),
        ("last_accepted_round", {"site-1": 1.5}), ("change", "x"), ("scorers", None), ("base_round", None),
        ("adapter", {"mode": "whole"}),
        ("adapter", {"mode": "whole", "payload": "text"}), ("control", {"mode": 1, "payload": b""}), ("control", 0),
    ],
)  # fmt: skip
def test_a_task_of_wrong_types_is_no_message(field: str, value: Any) -> None:
    task = RoundTask(round=1, train=True, adapter=TensorPayload("whole", b""), assignments={"site-1": ["site-1"]})
    assert from_wire(to_wire(task)) == task
    with pytest.raises(ValueError, match="not a message"):
        from_wire(mutated(lambda data: data.update({field: value}), task))


@pytest.mark.parametrize("roster", [None, "site-1", [1], [None], {"site-1": 1}, [["site-1"]]])
def test_a_roster_of_wrong_types_is_no_message(roster: Any) -> None:
    with pytest.raises(ValueError, match="not a message"):
        from_wire({"kind": "DataStatsRequest", "roster": roster, "versions": own_versions()})


# --dp local: one noisy answer for a client and round.


def test_one_answer_however_often_a_client_is_named(tmp_path: Path) -> None:
    host = host_of(tmp_path, **LOCAL)
    ready = set_up(host)
    assert len(answered(host, task_of(host, ready, assignments={"site-1": ["site-1"] * 16}))) == 1
    for attempt in (
        task_of(host, ready),
        task_of(host, ready, 0, train=False, assignments={}),
        task_of(host, ready, 1, train=False),
        task_of(host, ready, 1, assignments={"site-1": []}),
    ):
        refusal(host, attempt)
    assert "scores alone" in refusal(host, task_of(host, ready, 2, scorers={"site-1": ["site-1"]}))
    assert len(answered(host, task_of(host, ready, 3))) == 1
    assert "not the next" in refusal(host, task_of(host, ready, 2)), "rounds go forward"


def test_a_process_that_is_started_again_answers_no_round_again(tmp_path: Path) -> None:
    first = host_of(tmp_path, **LOCAL)
    answered(first, task_of(first, set_up(first)))
    again = host_of(tmp_path, **LOCAL)
    ready = set_up(again)
    assert "its noise would be spent twice" in refusal(again, task_of(again, ready))
    assert len(answered(again, task_of(again, ready, 2))) == 1


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"answered": -1}', '{"answered": "2"}', "[" * 100_000])
def test_a_record_that_is_lost_ends_it(tmp_path: Path, content: str | None) -> None:
    host = host_of(tmp_path, **LOCAL)
    ready = set_up(host)
    answered(host, task_of(host, ready))
    (record,) = tmp_path.glob("*rounds.json")
    record.unlink() if content is None else record.write_text(content)
    assert "the record of answered rounds is lost" in refusal(host, task_of(host, ready, 2))


def test_a_record_that_was_lost_before_the_start_ends_it(tmp_path: Path) -> None:
    first = host_of(tmp_path, **LOCAL)
    answered(first, task_of(first, set_up(first)))
    (record,) = tmp_path.glob("*rounds.json")
    record.unlink()
    again = host_of(tmp_path, **LOCAL)
    ready = set_up(again)
    assert "the record of answered rounds is lost" in refusal(again, task_of(again, ready, 2))


def test_nothing_of_the_data_but_the_noisy_update_goes_out(tmp_path: Path) -> None:
    host = host_of(tmp_path, **LOCAL)
    (update,) = answered(host, task_of(host, set_up(host)))
    told = to_wire(RoundReply([update]))["updates"][0]
    rows = len(host.data.partition.shares["site-1"].train)
    assert told.pop("train_loss") != told.pop("adapter"), "NaN, and the update"
    steps = -(-rows // (host.config.batch_size * host.config.grad_accum))
    assert told == {
        "client": "site-1", "round": 1, "untrained": [], "num_samples": rows, "steps": steps, "train_losses": {},
        "before": {}, "after": {}, "seconds_train": 0.0, "seconds_eval": 0.0, "error": "", "control": b"",
    }  # fmt: skip
    assert update.train_loss != update.train_loss


def test_a_client_that_fails_looks_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its update is noise alone, no more and no less; the site's log says why, the server nothing."""

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("patient Doe")

    host = host_of(tmp_path, simulated=False, **{**LOCAL, "dp_noise_multiplier": 1.0})
    ready = set_up(host)
    (healthy,) = answered(host, task_of(host, ready))
    monkeypatch.setattr("fedumm.federation.client.client.train_epochs", fails)
    with caplog.at_level(logging.WARNING):
        reply = say(host, task_of(host, ready, 2))
    assert "patient Doe" in caplog.text
    assert isinstance(reply, RoundReply)
    assert reply.notes == []
    (update,) = reply.updates
    same = dict.fromkeys(("round", "adapter", "train_loss"))
    assert to_wire(RoundReply([update]))["updates"][0] | same == to_wire(RoundReply([healthy]))["updates"][0] | same
    start = decode(ready.adapter)
    noise = torch.cat([(t - start[n]).flatten() for n, t in unpack(update.adapter, ready.spec).items()])
    assert float(noise.std()) == pytest.approx(0.5, rel=0.15)
    assert abs(float(noise.mean())) < 0.5 * 5 / len(noise) ** 0.5


def test_a_run_with_local_noise_has_no_losses_and_no_heldout_scores(tmp_path: Path) -> None:
    """Also in a simulation, which shows what real sites would."""
    config = toy_config(**lora_options(**LOCAL, num_rounds=1))
    run = Driven(tmp_path / "run", {"host-1": ["site-1", "site-2", "site-3"]}, config)
    for _, updates in run.rounds:
        assert all(not u.before and not u.after and u.train_loss != u.train_loss for u in updates.values())
    from fedumm.report.run_folder import read_records

    records = list(read_records(run.folder))
    assert all(r["rejected"] is None and r["train_loss"] is None for r in records if r["event"] == "client")
    assert [r["heldout_missing"] for r in records if r["event"] in ("round", "final")] == [[], []]
    assert {r["train_loss"] for r in records if r["event"] == "round"} == {None}


def test_memory_removes_its_own_files_only(tmp_path: Path) -> None:
    from fedumm.federation.client.client_state import ClientState

    memory = ClientState(tmp_path)
    for number in (1, 2):
        memory.save("site-1", number, {"own/w": torch.ones(1)}, number - 1)
    for other in ("model.safetensors", "1.safetensors", "0000001.safetensors", "notes.txt"):
        (tmp_path / "site-1" / other).write_bytes(b"mine")
    memory.save("site-1", 3, {"own/w": torch.ones(1)}, 2)
    assert sorted(p.name for p in (tmp_path / "site-1").iterdir()) == [
        "0000001.safetensors", "000002.safetensors", "000003.safetensors", "1.safetensors", "model.safetensors",
        "notes.txt",
    ]  # fmt: skip


def test_codec_is_used(asked: Asked) -> None:
    """A packed first adapter is as good as a whole one."""
    host, ready = asked
    packed = TensorPayload("values", pack(decode(ready.adapter), "float32", ready.spec))
    assert [u.error for u in answered(host, task_of(host, ready, adapter=packed))] == [""]


def test_a_run_ends_early_only_if_it_may(asked: Asked, tmp_path: Path) -> None:
    host, ready = asked
    assert "is not one of" in refusal(host, task_of(host, ready, 3, train=False))
    patient = host_of(tmp_path / "patient", patience=1)
    ready = set_up(patient)
    assert "is not one of" in refusal(patient, task_of(patient, ready, 2, train=False)), "too early even so"
    assert answered(patient, task_of(patient, ready, 3, train=False))
