"""A run's folder that is damaged, or was written by somebody who wants to do damage: one line, and no long work."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fedumm.errors import FedummError
from fedumm.federation.server.checkpoint import Checkpoint
from fedumm.federation.server.checkpoint_facts import checked
from fedumm.report.run_folder import RunFolder, read_records
from support.commands import BACKEND, federate, flags, prepare
from support.toy import toy_config

DEEP = "[" * 100_000
ODD: list[Any] = [None, True, -2, 10**400, 1.5, "x", [], ["x"], {}, {"x": {"x": None}}, {"x": 1}]


@pytest.fixture(scope="module", params=[{"aggregator": "fedadam"}, {"aggregator": "flora", "wire": "int8"}], ids=str)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one round."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        prepare(patch)
        assert federate(*flags(folder, num_rounds=1, **request.param)) == 0
    return folder


@pytest.fixture
def damaged(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    prepare(monkeypatch)
    shutil.copytree(finished, tmp_path / "damaged")
    return tmp_path / "damaged"


def positions(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from positions(child, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = copy.copy(value)
    changed[path[0]] = replaced(value[path[0]], path[1:], new)
    return changed


def shape_of(value: Any, depth: int = 0) -> Any:
    """Kinds in a tree: what code that reads it can stumble over."""
    if isinstance(value, bool) or value is None:
        return type(value)
    if isinstance(value, int | float):
        return "big" if abs(value) > 2**53 else "number"
    return type(value)


def test_facts_of_any_other_kind_are_refused(finished: Path) -> None:
    """Each value of a real state, in turn, by a value of another kind."""
    saved = Checkpoint(finished / "state").load()
    assert saved is not None
    facts = json.loads(json.dumps(saved[1]))
    assert checked(facts) == facts
    tried = refused = 0
    for path in positions(facts):
        for new in ODD:
            tried += 1
            try:
                checked(replaced(facts, path, new))
            except ValueError:
                refused += 1
                continue
            old = facts
            for key in path:
                old = old[key]
            same = shape_of(old) == shape_of(new) or {shape_of(old), shape_of(new)} == {type(None), "number"}
            assert same, (path, old, new)
    assert refused > tried / 2 > 100
    for path in positions(facts):
        if path and isinstance(path[-1], str) and path[0] in facts and len(path) == 1:
            lacking = {key: value for key, value in facts.items() if key != path[0]}
            with pytest.raises(ValueError, match=repr(path[0])):
                checked(lacking)


def rewritten(change: Callable[[dict[str, torch.Tensor], dict[str, Any]], Any]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        saved = Checkpoint(folder / "state").load()
        assert saved is not None
        tensors, facts = saved
        change(tensors, facts)
        save_file(tensors, folder / "state" / "server.safetensors", {"fedumm": json.dumps(facts)})

    return rewrite


def facts_text(text: str) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        file = folder / "state" / "server.safetensors"
        save_file(load_file(file), file, {"fedumm": text})

    return rewrite


def of_held(make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, torch.Tensor], Any], None]:
    def change(tensors: dict[str, torch.Tensor], _: Any) -> None:
        name = next(name for name in tensors if name.startswith("held/"))
        tensors[name] = make(tensors[name]).contiguous()

    return change


def appended(text: bytes) -> Callable[[Path], None]:
    def append(folder: Path) -> None:
        path = folder / "metrics.jsonl"
        path.write_bytes(text + b"\n" + path.read_bytes())

    return append


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "deep facts": facts_text(DEEP),
    "no facts": facts_text("null"),
    "a list of facts": facts_text("[1]"),
    "a round of another kind": rewritten(lambda _, facts: facts.update(round="7")),
    "records of another kind": rewritten(lambda _, facts: facts.update(records=[])),
    "scores of another kind": rewritten(lambda _, facts: facts.update(scores={"0": 1})),
    "a best one that is unknown": rewritten(lambda _, facts: facts["best"].update(version=7, scores={"x": {}})),
    "too many records": rewritten(lambda _, facts: facts.update(records=10**9)),
    "no tensors": rewritten(lambda tensors, _: tensors.clear()),
    "another tensor": rewritten(lambda tensors, _: tensors.update({"held/x": torch.zeros(1)})),
    "a wide tensor": rewritten(of_held(lambda t: torch.cat([t, t]))),
    "whole numbers": rewritten(of_held(lambda t: t.long())),
    "NaN": rewritten(of_held(lambda t: t * torch.nan)),
    "a moment of another shape": rewritten(lambda tensors, _: tensors.update({"aggregator/m.x": torch.zeros(1)})),
    "state is a folder": lambda run: (
        (run / "state" / "server.safetensors").unlink() or (run / "state" / "server.safetensors").mkdir()
    ),
    "garbage in metrics.jsonl": appended(b"\x00\xff\xfe garbage"),
    "a deep line": appended(DEEP.encode()),
    "a line of another kind": appended(b'["event"]'),
    "a record without a kind": appended(b'{"round": 1}'),
    "deep options": lambda run: (run / "config.yaml").write_text("# Repeat this run: x\n" + DEEP),
    "no backend": lambda run: (run / "config.yaml").write_text("# Repeat this run: x\nseed: 1\n"),
    "a list of options": lambda run: (run / "config.yaml").write_text("# Repeat this run: x\n- 1\n"),
    "garbage for options": lambda run: (run / "config.yaml").write_bytes(b"# Repeat this run: x\n\xff\xfe\x00"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_one_line(damaged: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], Any]) -> None:
    damage(damaged)
    capsys.readouterr()
    assert federate("--resume", damaged, "--num_rounds", 2, *BACKEND) == 2
    out, error = capsys.readouterr()
    assert "Traceback" not in out + error
    assert error.count("\n") == 1, error
    assert len(error) < 1000


def test_a_damaged_change_of_the_backbone_is_one_line(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = list((damaged / "state").glob("change-*"))
    if not changes:
        pytest.skip("this method changes no backbone")
    for content in (b"garbage", DEEP.encode() + b"\n", b"[1]\n", b'{"x": 1}\nzz', changes[0].read_bytes()[:-3]):
        changes[0].write_bytes(content)
        capsys.readouterr()
        assert federate("--resume", damaged, "--num_rounds", 2, *BACKEND) == 2
        out, error = capsys.readouterr()
        assert "Traceback" not in out + error
        assert error.count("\n") == 1, error


def test_lines_of_clients_are_passed_over_unread(tmp_path: Path) -> None:
    """With a thousand clients they are all but a thousandth of the file."""
    folder = RunFolder(tmp_path, toy_config())
    folder.on_record({"event": "setup"})
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(b'{"event": "client", which is not even JSON\n')
    folder.on_record({"event": "round", "round": 1})
    assert [r["event"] for r in read_records(tmp_path, clients=False)] == ["setup", "round"]
    with pytest.raises(FedummError, match=r"Line 2 of .* is no record"):
        list(read_records(tmp_path))


@pytest.mark.parametrize("what", ["rounds", "partition"])
def test_a_full_disk_at_the_last_figure_hides_no_other_error(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And is no error of a run that has all of its results."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"fedumm.report.figures.save_{what}_figure", full)
    assert federate(*flags(tmp_path / "run", num_rounds=1)) == 0
    out, error = capsys.readouterr()
    assert f"{what}.png is not drawn: [Errno 28] No space left on device" in out
    assert not error

    def refused(*_: object) -> None:
        raise FedummError("the reason")

    monkeypatch.setattr("fedumm.federation.server.server.Server.next_task", refused)
    assert federate(*flags(tmp_path / "other", num_rounds=1)) == 2
    assert "job.py: the reason\n" in capsys.readouterr().err
