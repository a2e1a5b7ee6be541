"""The filter for jobs of NVIDIA FLARE that are not FedUMM's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable

from fedumm.dp_filter import FILE, ClientPrivacy
from fedumm.privacy.accountant import Accountant


def context(folder: Path) -> FLContext:
    workspace = SimpleNamespace(get_root_dir=lambda: str(folder))
    own = FLContext()
    own.get_engine = lambda: SimpleNamespace(get_workspace=lambda: workspace)
    return own


def answer(data: dict[str, Any], kind: str = DataKind.WEIGHT_DIFF) -> Shareable:
    shareable = DXO(kind, data, {MetaKey.NUM_STEPS_CURRENT_ROUND: 77, "initial_metrics": 0.9}).to_shareable()
    shareable["secret"] = "a patient's name"
    shareable.add_cookie("round", 3)
    return shareable


def test_it_is_the_clipped_difference_with_noise_of_the_stated_size(tmp_path: Path) -> None:
    """20,000 values of norm 10 clipped to 2, sigma 0.5: noise of standard deviation 1, within five standard errors."""
    rng = np.random.default_rng(1)
    data = {"a": rng.normal(size=(100, 150)).astype(np.float32), "b": rng.normal(size=5000)}
    norm = np.sqrt(sum(float((t.astype(np.float64) ** 2).sum()) for t in data.values()))
    data = {name: (t * (10 / norm)).astype(t.dtype) for name, t in data.items()}
    noise = []
    filtered = ClientPrivacy(clip=2.0, noise_multiplier=0.5, answers=5)
    for _ in range(2):
        result = from_shareable(filtered.process(answer(data), context(tmp_path)))
        assert result.data_kind == DataKind.WEIGHT_DIFF
        assert {name: (t.shape, t.dtype) for name, t in result.data.items()} == {
            name: (t.shape, t.dtype) for name, t in data.items()
        }
        noise.append(np.concatenate([(result.data[n].astype(np.float64) - 0.2 * data[n]).ravel() for n in data]))
    for own in noise:
        assert abs(own.std() - 1) < 5 / np.sqrt(2 * len(own))
        assert abs(own.mean()) < 5 / np.sqrt(len(own))
    assert abs(np.corrcoef(*noise)[0, 1]) < 5 / np.sqrt(len(noise[0]))


def test_nothing_else_leaves(tmp_path: Path) -> None:
    result = ClientPrivacy(1.0, 1.0, 1).process(answer({"a": np.zeros(3, np.float32)}), context(tmp_path))
    assert "secret" not in result
    meta = from_shareable(result).meta
    assert MetaKey.NUM_STEPS_CURRENT_ROUND not in meta
    assert "initial_metrics" not in meta
    assert result.get_cookie_jar() is None


def test_torchs_tensors_stay_such(tmp_path: Path) -> None:
    data = {"a": torch.ones(4, dtype=torch.bfloat16)}
    result = from_shareable(ClientPrivacy(1.0, 1.0, 1).process(answer(data), context(tmp_path)))
    assert result.data["a"].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("shareable", "why"),
    [
        (answer({"a": np.zeros(3)}, DataKind.WEIGHTS), "WEIGHT_DIFF"),
        (answer({"accuracy": 0.5}, DataKind.METRICS), "WEIGHT_DIFF"),
        (Shareable(), "DXO"),
        (answer({"a": np.zeros(3, dtype=np.int64)}), "floating-point"),
        (answer({"a": np.array([np.nan])}), "NaN"),
        (answer({"a": np.array(["text"])}), "can't convert"),
    ],
)
def test_what_is_no_difference_does_not_leave(shareable: Shareable, why: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, TypeError), match=why):
        ClientPrivacy(1.0, 1.0, 9).process(shareable, context(tmp_path))
    assert not (tmp_path / FILE).exists()


def test_answers_are_counted_over_jobs_and_processes(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        ClientPrivacy(1.0, 4.0, 3).process(answer({"a": np.zeros(3)}), context(tmp_path))
        assert json.loads((tmp_path / FILE).read_text()) == {"answers": number}
    with pytest.raises(PermissionError, match="3 answers"):
        ClientPrivacy(1.0, 4.0, 3).process(answer({"a": np.zeros(3)}), context(tmp_path))


def test_epsilon_is_the_accountants() -> None:
    own = ClientPrivacy(1.0, 20.0, 100)
    assert own.epsilon(100) == Accountant("local", 20.0, 1.0, 1e-5).epsilon(100)


@pytest.mark.parametrize(
    "given",
    [{"clip": 0.0}, {"noise_multiplier": 0.0}, {"noise_multiplier": float("nan")}, {"answers": 0}, {"delta": 1.0}],
)
def test_numbers_out_of_range_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        ClientPrivacy(**{"clip": 1.0, "noise_multiplier": 1.0, "answers": 1, **given})


CLIENT = """
import numpy as np
import nvflare.client as flare
flare.init()
while flare.is_running():
    model = flare.receive()
    move = {name: np.full_like(value, 100.0) for name, value in model.params.items()}
    flare.send(flare.FLModel(params=move, params_type="DIFF", meta={"NUM_STEPS_CURRENT_ROUND": 5}))
"""
JOB = """
import sys
import numpy as np
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.apis.dxo import DataKind
from nvflare.client.config import TransferType
from nvflare.recipe.sim_env import SimEnv
from fedumm.dp_filter import ClientPrivacy
recipe = NumpyFedAvgRecipe(
    name="noisy", model=[[0.0] * 50] * 40, min_clients=2, num_rounds=2, train_script="client.py",
    params_transfer_type=TransferType.DIFF, aggregator_data_kind=DataKind.WEIGHT_DIFF, key_metric="",
)
recipe.add_client_output_filter(ClientPrivacy(clip=1.0, noise_multiplier=0.01, answers=2), tasks=["train"])
run = recipe.execute(SimEnv(num_clients=2, workspace_root=sys.argv[1]))
print(run.get_result())
"""


@pytest.mark.slow
def test_it_works_in_a_job_of_flares_own(tmp_path: Path) -> None:
    """Each client moves every value by 100; after two rounds the mean has moved by the clipped length."""
    (tmp_path / "client.py").write_text(CLIENT)
    (tmp_path / "job.py").write_text(JOB)
    command = [sys.executable, "job.py", str(tmp_path / "simulated")]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    found = list((tmp_path / "simulated").rglob("server.npy"))
    assert found, result.stdout[-3000:] + result.stderr[-3000:]
    weights = np.load(found[0])
    # Two rounds of norm 1 each over 2,000 values; noise of 0.01 / sqrt(2) a value and round.
    assert abs(weights.mean() - 2 / np.sqrt(2000)) < 5 * 0.01 / np.sqrt(2000)
    assert 0 < weights.std() < 0.02
