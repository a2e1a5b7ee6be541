"""The FLARE job: our controller, our executor, quick polling, no code shipped."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nvflare.job_config.api import FedJob
from nvflare.recipe.spec import Recipe

from fedumm.config import OF_ONE_RUN, FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.flare.carrier import TASK
from fedumm.federation.flare.controller import ServerController
from fedumm.federation.flare.executor import HostExecutor

_POLL = 0.05


def job_name(config: FederateConfig) -> str:
    """The last part of ``--name``, or a name from the backend's.

    Raises:
        FedummError: NVIDIA FLARE takes no such name for a job.
    """
    name = Path(config.name).name
    if not name:
        return f"fedumm-{re.sub(r'[^A-Za-z0-9._-]+', '-', config.model_backend)[:190]}"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", name):
        raise FedummError(
            f"--name {config.name}: {name!r} can't be a job's name. That has at most 200 letters of the English "
            "alphabet, digits, '.', '_' and '-', and begins with a letter or digit."
        )
    return name


def is_our_job(folder: Path) -> bool:
    """Whether ``folder`` is a job that :class:`FedummRecipe` wrote."""
    try:
        named = json.loads((folder / "meta.json").read_bytes())["name"] == folder.name
        text = next(folder.glob("*/config/config_fed_server.json")).read_text(encoding="utf-8")
        return named and ServerController.__module__ in text
    except (OSError, ValueError, KeyError, TypeError, RecursionError, StopIteration):
        return False


class FedummRecipe(Recipe):  # type: ignore[misc]
    """A federated run as a FLARE recipe, for ``execute(env)`` or ``export(folder)``.

    The job holds options only. Sites run the ``fedumm`` they have installed, so a site that lists
    allowed classes (``class_allow_list`` in ``local/resources.json``) needs the entry ``fedumm.``.

    Args:
        config: the run's options.
        run_dir: run folder of a simulated run; None for a job to be submitted.
        num_hosts: simulated hosts; 0 for real sites, which host one client each.

    Raises:
        FedummError: the options' ``name`` can't be a job's.
    """

    def __init__(self, config: FederateConfig, run_dir: Path | None = None, num_hosts: int = 0) -> None:
        job = FedJob(name=job_name(config), min_clients=num_hosts or config.num_clients)
        job.set_app_packages(["fedumm"])
        arguments: dict[str, Any] = {
            "run_config": {name: value for name, value in asdict(config).items() if name not in OF_ONE_RUN},
            "num_hosts": num_hosts,
        }
        job.to_server(ServerController(run_dir=str(run_dir.resolve()) if run_dir else "", **arguments), id="fedumm")
        job.to_server({"server": {"task_request_interval": _POLL}})
        job.to_clients(HostExecutor(**arguments), tasks=[TASK])
        job.to_clients({"default_task_fetch_interval": _POLL})
        super().__init__(job)
