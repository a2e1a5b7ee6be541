"""What a run keeps from one Slurm job to the next: whose it is, how long, and what the next job makes of it."""

from __future__ import annotations

import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from fedumm.config import FederateConfig, write_yaml
from fedumm.errors import FedummError
from fedumm.federation.runners.allocation import Allocation
from fedumm.federation.runners.kept_beside import KeptBeside
from fedumm.federation.runners.own_kits import run_steps
from fedumm.plugins import load_plugins
from fedumm.report.run_folder import CONFIG
from fedumm.run_options import to_mapping
from support.commands import federate, flags, prepare, records, results
from support.toy import LORA_TOY, lora_options, toy_config

JOB, OTHER = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"
NO_NODES = Allocation((), "", 0, 0)
"""Whoever starts something fails."""


def tensors(run: Path) -> dict[str, bytes]:
    """Of its adapters; a card names the run as its server calls it."""
    return {name: content for name, content in results(run).items() if name.endswith(".safetensors")}


def test_it_is_for_this_user_and_kits_are_gone_with_their_job(tmp_path: Path) -> None:
    kept = KeptBeside(tmp_path / "run")
    with kept.kits() as kits:
        assert [stat.S_IMODE(folder.stat().st_mode) for folder in (kept.folder, kits)] == [0o700, 0o700]
        for name in ("server", "site-1"):
            (kits / name).mkdir()
        kept.link({name: kits / name for name in ("server", "site-1")})
        (kits / "site-1" / "fedumm" / "state").write_text("kept")
        kept.begin(JOB, toy_config(), "fedumm poc")
    assert not kits.exists()
    (kept.folder / "kits").mkdir()  # as a killed job leaves it
    (kept.folder / "kits" / "key").touch()
    with kept.kits() as kits:
        assert not list(kits.iterdir())
        (kits / "site-1").mkdir()
        kept.link({"site-1": kits / "site-1"})
        assert (kits / "site-1" / "fedumm" / "state").read_text() == "kept"
        kept.begin(OTHER, toy_config(), "fedumm poc")
    assert kept.run == JOB
    kept.remove()
    assert not kept.folder.exists()
    assert kept.run == ""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FederateConfig:
    """Of a run of one round, whose result its server has, and nobody has fetched."""
    prepare(monkeypatch)
    load_plugins([str(LORA_TOY)])
    path = tmp_path / "run"
    assert federate(*flags(tmp_path / "straight", num_rounds=1)) == 0
    config = toy_config(**lora_options(name=str(path), num_rounds=1, in_process=False))
    kept = KeptBeside(path)
    kept.folder.mkdir()
    kept.begin(JOB, config, "fedumm poc")
    shutil.copytree(tmp_path / "straight", kept.at_server)
    return config


def test_a_result_that_was_not_fetched_in_time_is_there_without_a_further_round(
    config: FederateConfig, tmp_path: Path
) -> None:
    assert run_steps(config, "fedumm poc", NO_NODES) == 0
    assert tensors(tmp_path / "run") == tensors(tmp_path / "straight")
    assert records(tmp_path / "run") == records(tmp_path / "straight")
    assert not KeptBeside(tmp_path / "run").folder.exists()


def test_what_can_not_go_on_is_told_and_stays(config: FederateConfig, tmp_path: Path) -> None:
    kept = KeptBeside(tmp_path / "run")
    for name, value in {"lr": 0.5, "seed": 5, "model_name_or_path": "other"}.items():
        with pytest.raises(FedummError, match=f"The run in {tmp_path / 'run'} began with --{name} "):
            run_steps(replace(config, **{name: value}), "fedumm poc", NO_NODES)
    local = replace(config, dp="local", dp_noise_multiplier=1.0)
    write_yaml(to_mapping(local), kept.folder / CONFIG, "fedumm poc")
    with pytest.raises(FedummError, match="With --dp local a run can't be resumed"):
        run_steps(local, "fedumm poc", NO_NODES)
    assert (kept.at_server / "metrics.jsonl").is_file()
    kept.remove()
    with pytest.raises(FedummError, match="fedumm federate --resume"):
        run_steps(replace(config, resume=str(tmp_path / "run")), "fedumm poc", NO_NODES)
    assert not (tmp_path / "run").exists()
