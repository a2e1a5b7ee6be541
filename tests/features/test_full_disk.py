"""A disk that is really full, in a mount namespace of its own, where the system allows one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = """
mount -t tmpfs -o size=1m tmpfs "$1" || exit 77
shift
exec "$@"
"""
PROGRAM = """
import shutil, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import torch
from features.test_cache import Pictures
from fedumm.backends.protocol import FrozenStage
from fedumm.features.cache import cache_features
from fedumm.features.options import CacheOptions

folder = Path(sys.argv[2])
shutil.disk_usage = lambda _: type("Usage", (), {"free": 10**12})  # as where a quota is what ends first
stage = FrozenStage("test", torch.nn.Identity(), lambda p: p.mean((1, 2, 3))[:, None, None] * torch.ones(40, 40), "{}")
data, options = Pictures(range(250)), CacheOptions("auto", 10**9, folder)
print(cache_features(stage, [data], options, torch.device("cpu"), lambda *_: None).describe())
assert all(torch.equal(data.features.of(row), torch.full((40, 40), float(row))) for row in range(250))
print([path.name for path in folder.rglob("*") if path.is_file()])
"""


def test_a_run_goes_on_and_leaves_the_disk_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "small").mkdir()
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("needs unshare")
    small, tests = str(tmp_path / "small"), str(Path(__file__).parents[1])
    command = [unshare, "--mount", "--map-root-user", "bash", "-c", SMALL, "small", small]
    command += [sys.executable, str(tmp_path / "program.py"), tests, small]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no mount namespaces here")
    assert done.returncode == 0, done.stderr
    told, files = done.stdout.splitlines()
    assert told.startswith("test of 250 images: 1.6 MB in memory, 250 computed now")
    assert "No space left" in told
    assert files == "['stage.json']"
