"""The FLARE job: our controller, our executor, quick polling, no code shipped."""

from __future__ import annotations

import json
import re
from pathlib import Path

from nvflare.job_config.api import FedJob
from nvflare.recipe.spec import Recipe

from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.runners.flare.job_options import job_options
from fedumm.federation.runners.flare.shareables import TASK
from fedumm.flare import HostExecutor, ServerController

SERVER_CLASSES = ("fedumm.flare.ServerController",)
SITE_CLASSES = ("fedumm.flare.HostExecutor",)
"""What a job's configurations name, and ``class_allow_list`` of the server and of a site must admit: exactly these."""

NO_LOGS = {"allow_log_streaming": False}
"""For a site: FLARE's own log streamer is a class of the job, and sends any file of the job's folder to the server."""

_POLL = 0.05

_MESSAGES = ("get_task_timeout", "submit_task_result_timeout")
"""How long a site waits for the server when it asks for a task or hands in a result, before it tries again. FLARE's
default of minutes would keep a site that was cut off for moments out for rounds."""

_OF_LOST_SITES = {"dead_client_grace_period": 5.0, "dead_client_check_lead_time": 5.0}
"""Seconds until FLARE believes that a site is lost (60 by default), and until it asks so after a task began (30)."""


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
            f"--name {config.name}: {name!r} can't be a job's name. Use at most 200 English letters, digits, "
            "'.', '_' and '-', with a letter or digit first."
        )
    return name


def is_our_job(folder: Path) -> bool:
    """Whether ``folder`` is a job that :class:`FedummRecipe` wrote."""
    try:
        named = json.loads((folder / "meta.json").read_bytes())["name"] == folder.name
        text = next(folder.glob("*/config/config_fed_server.json")).read_text(encoding="utf-8")
        return named and SERVER_CLASSES[0] in text
    except (OSError, ValueError, KeyError, TypeError, RecursionError, StopIteration):
        return False


class FedummRecipe(Recipe):  # type: ignore[misc]
    """A federated run as a FLARE recipe, for ``execute(env)`` or ``export(folder)``.

    The job holds options only. Server and sites run the ``fedumm`` that they have installed, and admit the classes of
    :data:`SERVER_CLASSES` and :data:`SITE_CLASSES`.

    Args:
        config: the run's options.
        num_hosts: simulated hosts, whose options are in the run's folder; 0 for real sites, which host one client each.
        resumes: number of the first job of the run that this job resumes.

    Raises:
        FedummError: the options' ``name`` can't be a job's, or a path of this machine would have to travel.
    """

    def __init__(self, config: FederateConfig, num_hosts: int = 0, resumes: str = "") -> None:
        job = FedJob(name=job_name(config), min_clients=num_hosts or config.min_clients)
        job.set_app_packages(["fedumm"])
        options = {} if num_hosts else job_options(config)
        job.to_server(ServerController(options, resumes), id="fedumm")
        job.to_server({"server": {"task_request_interval": _POLL}, **_OF_LOST_SITES})
        job.to_clients(HostExecutor(options, resumes), tasks=[TASK])
        waits = {} if num_hosts else dict.fromkeys(_MESSAGES, config.transfer_timeout)
        job.to_clients({"default_task_fetch_interval": _POLL, **waits})
        super().__init__(job)
