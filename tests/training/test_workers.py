"""Workers hand their batches over whatever room there is in shared memory, and the same ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from fedumm.training import workers
from fedumm.training.workers import WorkerLoader, tensor_bytes


class Rows:
    """Numbers in lists, dictionaries and tuples."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.full((500,), float(row))


def collate(rows: list[torch.Tensor]) -> dict[str, Any]:
    return {"x": torch.stack(rows), "parts": [(rows[0], "text")], "n": len(rows)}


def batches(make: Any) -> list[dict[str, Any]]:
    return list(make(Rows(), batch_sampler=[[0, 1, 2], [3, 9], [4]], collate_fn=collate, num_workers=2))


@pytest.mark.parametrize("free", [0, 2**40])
def test_batches_are_the_same_by_either_way(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free, 0, free))  # type: ignore[attr-defined]
    own, plain = batches(WorkerLoader), batches(DataLoader)
    assert [b["n"] for b in own] == [3, 2, 1]
    for one, other in zip(own, plain, strict=True):
        assert torch.equal(one["x"], other["x"])
        assert torch.equal(one["parts"][0][0], other["parts"][0][0])
        assert one["x"].is_shared() == (free > 0)
        assert other["x"].is_shared()


def test_bytes_are_counted_wherever_tensors_are() -> None:
    assert tensor_bytes(collate([torch.zeros(500)] * 3)) == 4 * 500 * 4
    assert (
        tensor_bytes([(torch.zeros(3, dtype=torch.int64),), {"a": {"b": torch.zeros(2, dtype=torch.int8)}}, "x"]) == 26
    )


SMALL = """
mount -t tmpfs -o size=1m tmpfs /dev/shm || exit 77
exec "$@"
"""
PROGRAM = """
import torch
from fedumm.training.workers import WorkerLoader

def collate(rows):
    return torch.stack(rows)

if __name__ == "__main__":
    rows = [torch.full((300_000,), float(i)) for i in range(8)]
    loader = WorkerLoader(rows, batch_size=2, collate_fn=collate, num_workers=2)
    print([batch[:, -1].tolist() for batch in loader])
"""


def test_with_a_tiny_dev_shm_nobody_waits_for_ever(tmp_path: Path) -> None:
    """In a mount namespace of its own, where the system allows one."""
    (tmp_path / "program.py").write_text(PROGRAM)
    unshare = shutil.which("unshare")
    if unshare is None or not os.path.isdir(workers.SHARED_MEMORY):
        pytest.skip("needs unshare and /dev/shm")
    command = [unshare, "--mount", "--map-root-user", "bash", "-c", SMALL, "small", sys.executable]
    done = subprocess.run([*command, str(tmp_path / "program.py")], capture_output=True, text=True, timeout=120)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no mount namespaces here")
    assert done.stdout == "[[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]]\n", done.stderr
