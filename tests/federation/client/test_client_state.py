"""What clients keep: by round, so that a round can be done again."""

from __future__ import annotations

from pathlib import Path

import torch

from fedumm.adapters.state import part, under
from fedumm.federation.client.client_state import CONTROL, OWN, RESIDUAL, ClientState, next_client_state


def test_a_round_done_again_starts_from_what_was_before_it(tmp_path: Path) -> None:
    memory = ClientState(tmp_path / "clients")
    assert memory.load("site-1", 0) == {}
    for last_accepted_round, round_number in ((0, 1), (1, 2), (2, 5)):
        memory.save("site-1", round_number, {"x": torch.tensor([float(round_number)])}, last_accepted_round)
    assert memory.load("site-1", 5)["x"].item() == 5
    assert memory.load("site-1", 2)["x"].item() == 2, "round 5 once more"
    memory.save("site-1", 5, {"x": torch.tensor([50.0])}, last_accepted_round=2)
    assert memory.load("site-1", 5)["x"].item() == 50
    assert memory.load("site-1", 2)["x"].item() == 2
    assert len(list((tmp_path / "clients" / "site-1").iterdir())) == 2, "no more than it takes"
    assert memory.load("site-2", 5) == {}


def test_rounds_that_did_not_count_leave_what_was_before_them(tmp_path: Path) -> None:
    memory = ClientState(tmp_path)
    for last_accepted_round, round_number in ((0, 1), (1, 2), (2, 3), (2, 4)):
        memory.save("site-1", round_number, {"x": torch.tensor([float(round_number)])}, last_accepted_round)
    assert memory.load("site-1", 2)["x"].item() == 2
    memory.save("site-1", 4, {}, last_accepted_round=2)
    assert memory.load("site-1", 4) == {}, "not of an earlier try"
    assert memory.load("site-1", 2)["x"].item() == 2


def test_nothing_to_keep_leaves_no_file(tmp_path: Path) -> None:
    ClientState(tmp_path / "clients").save("site-1", 1, {}, last_accepted_round=0)
    assert not (tmp_path / "clients").exists()


def test_parts_by_prefix() -> None:
    own, lost = {"a": torch.ones(1)}, {"a": torch.zeros(1)}
    whole = under(OWN, own) | under(RESIDUAL, lost)
    assert part(whole, OWN) == own
    assert part(whole, RESIDUAL) == lost


def test_a_loss_that_was_made_up_for_is_forgotten() -> None:
    old, new = torch.zeros(1), torch.ones(1)
    before = under(OWN, {"a": old, "b": old}) | under(CONTROL, {"a": old}) | under(RESIDUAL, {"a": old, "b": old})
    after = next_client_state(before, {"a": new}, {"a": new}, {"b": new})
    assert part(after, OWN) == {"a": new, "b": old}, "what was not trained stays"
    assert part(after, CONTROL) == {"a": new}
    assert part(after, RESIDUAL) == {"b": new}
