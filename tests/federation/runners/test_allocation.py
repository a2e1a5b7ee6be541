"""A Slurm job's nodes: what of them server and sites get, and what Slurm is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.runners.allocation import Allocation, Share, share_of, this_allocation
from fedumm.run_options import from_mapping

SCONTROL = """#!/bin/sh
[ "$*" = "show hostnames n[1-2]" ] && printf 'n1\\nn2\\n'
[ "$*" = "show node n2" ] && echo 'NodeName=n2 Gres=gpu:2 NodeAddr=10.0.0.2 NodeHostName=other Port=1'
exit 0
"""


def config_of(clients: int, **options: Any) -> FederateConfig:
    return from_mapping(FederateConfig, {"model_backend": "blip_vqa", "num_clients": clients, **options})


@pytest.mark.parametrize(
    ("clients", "nodes", "cpus", "gpus", "options", "expected"),
    [
        (4, 4, 8, 1, {}, Share(8, 1)),
        (5, 2, 8, 3, {}, Share(2, 1)),
        (5, 4, 8, 0, {"gpu": "cpu"}, Share(4, 0)),
        (2, 2, 8, 4, {"device_map": "auto"}, Share(8, 4)),
        (4, 2, 9, 5, {"device_map": "auto"}, Share(4, 2)),
    ],
)
def test_sites_of_a_node_share_it_alike(
    clients: int, nodes: int, cpus: int, gpus: int, options: dict[str, Any], expected: Share
) -> None:
    assert share_of(config_of(clients, **options), nodes, cpus, gpus) == expected


@pytest.mark.parametrize(("clients", "nodes", "cpus", "gpus"), [(2, 3, 8, 0), (4, 1, 3, 0), (4, 2, 8, 1), (2, 2, 8, 2)])
def test_nothing_is_left_over_or_lacking(clients: int, nodes: int, cpus: int, gpus: int) -> None:
    with pytest.raises(FedummError):
        share_of(config_of(clients), nodes, cpus, gpus)


def test_every_site_has_a_step_of_its_own_and_the_server_one_beside_them() -> None:
    steps = Allocation(("n2", "n1"), "10.0.0.2", 4, 2).steps("server", ["a", "b", "c"], config_of(3))
    nodes = {name: part.partition("=")[2] for name, step in steps.items() for part in step if "nodelist" in part}
    assert nodes == {"server": "n2", "a": "n2", "b": "n1", "c": "n2"}
    assert {"srun", "--overlap", "--gres=none", "--job-name=server"} <= set(steps["server"])
    for site in "abc":
        assert {"srun", "--exact", "--cpus-per-task=2", "--gres=gpu:1", f"--job-name={site}"} <= set(steps[site])


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a batch script on ``n2``."""
    (tmp_path / "scontrol").write_text(SCONTROL)
    (tmp_path / "scontrol").chmod(0o755)
    values = {
        "PATH": str(tmp_path), "SLURM_JOB_NODELIST": "n[1-2]", "SLURMD_NODENAME": "n2", "SLURM_CPUS_PER_TASK": "6",
        "SLURM_CPUS_ON_NODE": "8", "SLURM_GPUS_ON_NODE": "2",
    }  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("job")
def test_the_server_is_where_the_batch_script_is() -> None:
    assert this_allocation() == Allocation(("n2", "n1"), "10.0.0.2", 6, 2)


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLURM_JOB_NODELIST", ""),
        ("SLURM_JOB_NODELIST", "nothing"),
        ("SLURMD_NODENAME", "n3"),
        ("SLURMD_NODENAME", "n1"),
        ("PATH", "/nowhere"),
    ],
)
def test_what_is_no_such_job_is_told(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The last but one: Slurm says nothing of the node."""
    monkeypatch.setenv(name, value)
    with pytest.raises(FedummError, match=r"--slurm|[Ss]lurm"):
        this_allocation()
