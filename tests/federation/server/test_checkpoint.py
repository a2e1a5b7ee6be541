"""The server's state on disk: whole, or as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fedumm.errors import FedummError
from fedumm.federation.server.checkpoint import Checkpoint

TENSORS = {"held/w": torch.tensor([1.0, 2.0]), "aggregator/m": torch.tensor([[3.0]], dtype=torch.float64)}
NO_SCORES: dict[str, Any] = {
    "heldout": None, "heldout_tasks": {}, "heldout_clients": {}, "heldout_missing": [], "test": None, "test_tasks": {},
}  # fmt: skip
FACTS: dict[str, Any] = {
    "round": 3, "fingerprint": "f", "fingerprints": {}, "best": {"version": 0, "scores": {"site-1": {"vqa": [0.5, 4]}}},
    "scores": {"0": NO_SCORES}, "last_accepted_round": {"site-1": 3},
    "digests": {"site-1": "d"}, "elapsed": 1.5, "records": 99, "ended": False,
}  # fmt: skip


def test_round_trip(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state")
    assert checkpoint.load() is None
    checkpoint.save(TENSORS, FACTS)
    found = Checkpoint(tmp_path / "state").load()
    assert found is not None
    assert found[1] == FACTS
    assert all(torch.equal(found[0][name], t) and found[0][name].dtype == t.dtype for name, t in TENSORS.items())
    assert all(t.data_ptr() % 64 == 0 for t in found[0].values()), "products must not round otherwise after a resume"


def test_changes_of_the_backbone_come_back_in_order_and_not_from_later_rounds(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state")
    for number in range(1, 12):
        checkpoint.save_change(number, str(number).encode())
    assert checkpoint.changes(10) == [str(number).encode() for number in range(1, 11)]
    (tmp_path / "state" / "change-000003").unlink()
    with pytest.raises(FedummError, match="change-000003 is missing"):
        checkpoint.changes(10)


def test_a_failed_write_leaves_the_last_good_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint(tmp_path / "state")
    checkpoint.save(TENSORS, FACTS)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("fedumm.files.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            checkpoint.save({}, {"round": 4})
    found = checkpoint.load()
    assert found is not None
    assert found[1]["round"] == 3


def test_a_damaged_state_is_one_clear_error(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state")
    checkpoint.save(TENSORS, FACTS)
    path = next((tmp_path / "state").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(FedummError, match=r"server.safetensors is damaged .*this run can't be resumed"):
        checkpoint.load()
