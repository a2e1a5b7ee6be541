"""A site's own log of what left it: complete, before it leaves, and no line of it can be changed unseen."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.signal import Signal

from fedumm.adapters import encode, spec_of
from fedumm.cli.main import main
from fedumm.compression.header import tensors_in
from fedumm.compression.packing import pack
from fedumm.federation.protocol.messages import (
    ClientUpdate,
    DataStats,
    HostError,
    InitReply,
    Message,
    RoundReply,
    RoundTask,
    TensorPayload,
)
from fedumm.federation.runners.flare import outgoing_log, shareables
from fedumm.federation.runners.flare.outgoing_log import FILE, FIRST, FULL, OutgoingLog, read
from fedumm.flare import HostExecutor
from fedumm.metrics.evaluation import Evaluation

STATE = {f"layer{i}.lora_{f}.weight": torch.full((2, 3), float(i)) for i in range(5) for f in "AB"}
SPEC = spec_of(STATE)
SOME = {name: tensor for name, tensor in STATE.items() if "lora_B" in name}
TASK = RoundTask(round=3, train=True, adapter=TensorPayload("values", b""), assignments={"site-1": ["site-1"]})
READY = InitReply(
    spec=SPEC,
    adapter_config={"r": 2},
    trainable=60,
    total=100,
    adapter=encode(STATE),
    test_samples=4,
    cache=[],
    device="cpu",
)
UPDATE = ClientUpdate(
    client="site-1", round=3, adapter=pack(SOME, "float32", SPEC), num_samples=7, train_loss=float("nan"),
    before={"vqa": Evaluation(0.25, 4, {"yes/no": (0.5, 2)})},
)  # fmt: skip

NUMBER = "77000000-0000-4000-8000-000000000000"


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    return tmp_path / "site-1"


def filled(kit: Path) -> Path:
    log = OutgoingLog(kit / FILE, "1f1b", "lead@example.com")
    for message, answer in ((None, DataStats({}, "own", "x")), (None, READY), (TASK, RoundReply([UPDATE]))):
        log.add(message, answer)
    return kit / FILE


@pytest.mark.parametrize("wire", ["float32", "int8"])
def test_tensors_are_counted_as_they_were_packed(wire: str) -> None:
    assert tensors_in(pack(SOME, wire, SPEC), len(SPEC)) == 5
    assert tensors_in(encode(STATE), 0) == 10
    with pytest.raises(ValueError, match="no adapter"):
        tensors_in(b"x", 3)


def test_a_line_says_all_that_the_answer_did(kit: Path) -> None:
    entries = list(read(filled(kit)))
    assert stat.S_IMODE((kit / FILE).stat().st_mode) == 0o600
    assert [entry.problem for entry in entries] == [""] * 3
    line: Any = entries[2].content
    assert (line["job"], line["submitter"], line["round"], line["kind"]) == (
        "1f1b",
        "lead@example.com",
        3,
        "RoundReply",
    )
    (update,) = line["content"]["updates"]
    sha = hashlib.sha256(UPDATE.adapter).hexdigest()
    assert update["adapter"] == {"tensors": 5, "bytes": len(UPDATE.adapter), "sha256": sha}
    assert (line["bytes"], line["digest"]) == (len(UPDATE.adapter), sha)
    assert (update["train_loss"], update["num_samples"]) == ("nan", 7)
    assert update["before"]["vqa"] == {
        "score": 0.25,
        "count": 4,
        "parts": {"yes/no": [0.5, 2]},
        "loss": None,
        "others": {},
    }
    assert line["before"] == hashlib.sha256((kit / FILE).read_bytes().split(b"\n")[1]).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [lines[0].replace(b"own", b"iid"), *lines[1:]],
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: lines[1:],
        lambda lines: [lines[0], lines[0], *lines[1:]],
        lambda lines: [lines[1], lines[0], lines[2]],
        lambda lines: [lines[0], b"garbage", lines[2]],
    ],
)
def test_a_line_that_was_changed_or_taken_out_is_found(
    change: Any, kit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = filled(kit)
    path.write_bytes(b"\n".join([*change(path.read_bytes().splitlines()), b""]))
    assert any(entry.problem for entry in read(path))
    assert main(["site-log", str(kit)]) == 1
    assert "FAULT  line" in capsys.readouterr().out


@pytest.mark.parametrize("kept", [1, 40, -2, -1])
def test_a_writer_that_was_stopped_leaves_a_log_that_still_holds(kept: int, kit: Path) -> None:
    """Also if what follows was stopped as well; and a change before the parts is found."""
    path = filled(kit)
    lines = path.read_bytes().splitlines()
    path.write_bytes(lines[0] + b"\n" + lines[1][:kept])
    OutgoingLog(path, "2", "").add(None, HostError("no"))
    path.write_bytes(path.read_bytes()[:-7])
    OutgoingLog(path, "3", "").add(None, HostError("no"))
    entries = list(read(path))
    assert [entry.problem for entry in entries] == [""] * 4
    assert entries[-1].content is not None
    assert entries[-1].content["job"] == "3"
    path.write_bytes(path.read_bytes().replace(b"own", b"iid", 1))
    assert any(entry.problem for entry in read(path))


def test_lines_longer_than_a_block_follow_each_other(kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing_log, "_BLOCK", 16)
    assert [entry.problem for entry in read(filled(kit))] == [""] * 3


def test_a_cut_end_is_found_by_who_noted_the_last_digest(kit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = filled(kit)
    assert main(["site-log", str(kit)]) == 0
    last = capsys.readouterr().out.split()[-1]
    assert main(["site-log", str(kit), "--seen", last]) == 0
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert main(["site-log", str(kit)]) == 0
    assert main(["site-log", str(kit), "--seen", last]) == 1


def test_the_command_shows_one_job(
    kit: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    OutgoingLog(filled(kit), "abcd", "other\x1b[2J").add(TASK, HostError("no"))
    assert main(["site-log", str(kit), "--job", "1f", "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)
    assert [line["kind"] for line in lines] == ["DataStats", "InitReply", "RoundReply"]
    assert lines[0]["before"] == FIRST
    assert main(["site-log", str(kit)]) == 0
    shown = capsys.readouterr().out
    assert "\x1b[2J" not in shown
    assert "lead@example.com" in shown
    assert main(["site-log", str(kit / "fedumm")]) == 2


class Site:
    """FLARE's context of a job at a site."""

    def __init__(self, kit: Path) -> None:
        self._kit = kit

    def get_engine(self) -> Any:
        workspace = SimpleNamespace(get_root_dir=lambda: str(self._kit), get_site_config_dir=lambda: str(self._kit))
        return SimpleNamespace(get_workspace=lambda: workspace)

    def get_job_id(self) -> str:
        return NUMBER

    def get_identity_name(self) -> str:
        return "site-1"

    def get_prop(self, name: str) -> Any:
        return {"submitter_name": "lead@example.com"} if name == FLContextKey.JOB_META else None


def asked(executor: HostExecutor, kit: Path) -> Message:
    context: Any = Site(kit)
    return shareables.unpack(executor.execute(shareables.TASK, shareables.pack(TASK), context, Signal()))


def executor_with(answer: Message) -> HostExecutor:
    executor = HostExecutor({})
    executor._host = SimpleNamespace(handle=lambda message: answer)
    return executor


def test_an_answer_leaves_with_its_line(kit: Path) -> None:
    reply = asked(executor_with(RoundReply([UPDATE])), kit)
    assert isinstance(reply, RoundReply)
    (entry,) = read(kit / FILE)
    assert entry.content is not None
    assert (entry.content["job"], entry.content["submitter"]) == (NUMBER, "lead@example.com")


def test_a_refusal_has_a_line_too(kit: Path) -> None:
    """Of a job that this site does not admit."""
    (kit / "local").mkdir(parents=True)
    refused = asked(HostExecutor({"model_backend": "nobodys"}), kit)
    assert isinstance(refused, HostError)
    (entry,) = read(kit / FILE)
    assert entry.content is not None
    assert entry.content["content"]["message"] == refused.message


@pytest.mark.parametrize("written", [0, 30])
def test_without_its_line_no_answer_leaves(written: int, kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full, at once or in the middle of a line."""
    write, room = os.write, iter([written] * bool(written))

    def full(descriptor: int, content: bytes) -> int:
        for size in room:
            return write(descriptor, content[:size])
        raise OSError(errno.ENOSPC, "No space left on device")

    executor = executor_with(RoundReply([UPDATE]))
    with monkeypatch.context() as patch:
        patch.setattr(outgoing_log.os, "write", full)
        reply = asked(executor, kit)
    assert reply == HostError(FULL)
    assert isinstance(asked(executor, kit), RoundReply), "there is room again"
    assert [entry.problem for entry in read(kit / FILE)] == [""] * (1 + bool(written))


def test_a_link_in_its_place_is_not_written_to(kit: Path, tmp_path: Path) -> None:
    (kit / FILE).parent.mkdir(parents=True)
    (kit / FILE).symlink_to(tmp_path / "elsewhere")
    assert asked(executor_with(RoundReply([UPDATE])), kit) == HostError(FULL)
    assert not (tmp_path / "elsewhere").exists()
