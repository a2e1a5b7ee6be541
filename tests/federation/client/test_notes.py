"""What a host has to say to the user gets to the screen and into the log, and is only text there."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedumm.federation.protocol.messages import RoundReply
from fedumm.federation.protocol.wire import from_wire, to_wire
from fedumm.report.console import RunConsole
from support.toy import Run

TIGHT = """
import torch
from fedumm.backends import register_backend
from support.toy_backend import ToyBackend

class Tight(ToyBackend):
    def evaluate(self, model, dataloader, processor, device):
        def batches():
            for batch in dataloader:
                if len(batch["y"]) > 10:
                    raise torch.OutOfMemoryError("CUDA out of memory.")
                yield batch
        return super().evaluate(model, batches(), processor, device)

register_backend("toy", Tight())
"""


def weights(folder: Path) -> bytes:
    return (folder / "adapter" / "best" / "adapter_model.safetensors").read_bytes()


def test_running_out_of_memory_is_told_and_changes_nothing(run_toy: Run, tmp_path: Path) -> None:
    (tmp_path / "tight.py").write_text(TIGHT)
    options = {"hosts": 1, "num_clients": 2, "eval_batch_size": 32}
    folder, records = run_toy("free", **options)
    assert not [r for r in records if r["event"] == "note"]
    tight, told = run_toy("tight", plugin=str(tmp_path / "tight.py"), **options)
    notes = [r for r in told if r["event"] == "note"]
    assert [r["text"].split(":")[0] for r in notes] == [
        f"Out of memory on cpu, answering questions {size} at a time" for size in (32, 16)
    ], "once in the whole run: what fits is remembered"
    assert {(r["round"], r["host"]) for r in notes} == {(1, "host-1")}
    assert weights(tight) == weights(folder)
    for kind in ("round", "final"):
        for own, other in zip(*([r for r in rs if r["event"] == kind] for rs in (told, records)), strict=True):
            assert (own["heldout"], own["test"]) == (other["heldout"], other["test"])


def test_a_note_is_a_line_on_screen() -> None:
    console = RunConsole(Console(file=io.StringIO(), width=200))
    console.show({"event": "note", "round": 2, "host": "host-1", "text": "Out of [memory]"})
    assert console.console.file.getvalue() == "  round 2: host-1: Out of [memory]\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "taken"),
    [(["a\x1b[2J\nb"], ["a\\x1b[2J\\nb"]), (["x" * 9999], ["x" * 497 + "..."]), (["y"] * 99, ["y"] * 20)],
    ids=["control characters", "long", "many"],
)
def test_notes_of_a_stranger_are_short_lines(given: list[str], taken: list[str]) -> None:
    reply: Any = from_wire(to_wire(RoundReply([], notes=given)))
    assert reply.notes == taken
