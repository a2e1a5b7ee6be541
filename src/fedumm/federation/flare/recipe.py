"""The FLARE job: our controller, our executor, quick polling, no code shipped."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from nvflare.job_config.api import FedJob
from nvflare.recipe.spec import Recipe

from fedumm.config import OF_ONE_RUN, FederateConfig
from fedumm.federation.flare.carrier import TASK
from fedumm.federation.flare.controller import ServerController
from fedumm.federation.flare.executor import HostExecutor

_POLL = 0.05


class FedummRecipe(Recipe):  # type: ignore[misc]
    """A federated run as a FLARE recipe, for ``execute(env)`` or ``export(folder)``.

    The job holds options only. Sites run the ``fedumm`` they have installed, so a site that lists
    allowed classes (``class_allow_list`` in ``local/resources.json``) needs the entry ``fedumm.``.

    Args:
        config: the run's options.
        run_dir: run folder of a simulated run; None for a job to be submitted.
        num_hosts: simulated hosts; 0 for real sites, which host one client each.
    """

    def __init__(self, config: FederateConfig, run_dir: Path | None = None, num_hosts: int = 0) -> None:
        name = Path(config.name).name or f"fedumm-{config.model_backend}"
        job = FedJob(name=name, min_clients=num_hosts or config.num_clients)
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
