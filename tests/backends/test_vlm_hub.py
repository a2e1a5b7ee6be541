"""An image-text model by its name on a Hub of this machine: downloaded, then federated without a connection."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.hub_repositories import child_env
from support.hub_server import HubServer, closed_port
from support.vlm_families import save

MODEL = "someone/a-small-model"


def fedumm(folder: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    own = {"HF_HOME": str(folder / "hf"), "PYTHONPATH": os.environ.get("PYTHONPATH", ""), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "fedumm", *command], cwd=folder, env=child_env({**own, **env}), capture_output=True,
        text=True, timeout=200,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smolvlm"])
def test_a_model_of_the_hub_is_federated_from_the_cache(name: str, tmp_path: Path) -> None:
    model = ("--model_backend", "hf_vlm", "--model_name_or_path", MODEL)
    small = ("--dataset", "shapes", "--max_train_samples", "24", "--max_eval_samples", "8", "--num_clients", "2",
             "--num_rounds", "1", "--in_process", "--name", "run")  # fmt: skip
    with HubServer({("model", MODEL): save(name, tmp_path / "model")}) as hub:
        done = fedumm(tmp_path, "download", *model, "--dataset", "shapes", HF_ENDPOINT=hub.endpoint)
        assert done.returncode == 0, done.stderr
    done = fedumm(tmp_path, "federate", *model, *small, HF_ENDPOINT=closed_port())
    assert done.returncode == 0, done.stderr
    assert "LoRA on 6 layers" in done.stdout
    done = fedumm(
        tmp_path, "ask", str(Path(__file__).parents[2] / "docs" / "unified.png"), "What is it?", "--adapter",
        "runs/run/adapter/last", HF_ENDPOINT=closed_port(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
