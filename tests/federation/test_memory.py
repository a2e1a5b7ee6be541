"""What clients keep: by round, so that a round can be done again."""

from __future__ import annotations

from pathlib import Path

import torch

from fedumm.federation.memory import OWN, RESIDUAL, ClientMemory, part, under


def test_a_round_done_again_starts_from_what_was_before_it(tmp_path: Path) -> None:
    memory = ClientMemory(tmp_path / "clients")
    assert memory.load("site-1", 1) == {}
    for round_number in (1, 2, 5):
        memory.save("site-1", round_number, {"x": torch.tensor([float(round_number)])})
    assert memory.load("site-1", 6)["x"].item() == 5
    assert memory.load("site-1", 5)["x"].item() == 2, "round 5 once more"
    memory.save("site-1", 5, {"x": torch.tensor([50.0])})
    assert memory.load("site-1", 6)["x"].item() == 50
    assert memory.load("site-1", 5)["x"].item() == 2
    assert len(list((tmp_path / "clients" / "site-1").iterdir())) == 2, "no more than it takes"
    assert memory.load("site-2", 9) == {}


def test_what_a_resumed_run_left_behind_does_not_count(tmp_path: Path) -> None:
    memory = ClientMemory(tmp_path)
    for round_number in (1, 2, 3, 4):
        memory.save("site-1", round_number, {"x": torch.tensor([float(round_number)])})
    memory.save("site-1", 4, {"x": torch.tensor([40.0])})
    assert [memory.load("site-1", n)["x"].item() for n in (4, 5)] == [3, 40]


def test_nothing_to_keep_leaves_no_file(tmp_path: Path) -> None:
    ClientMemory(tmp_path / "clients").save("site-1", 1, {})
    assert not (tmp_path / "clients").exists()


def test_parts_by_prefix() -> None:
    own, lost = {"a": torch.ones(1)}, {"a": torch.zeros(1)}
    whole = under(OWN, own) | under(RESIDUAL, lost)
    assert part(whole, OWN) == own
    assert part(whole, RESIDUAL) == lost
