"""``python -m fedumm.federation.runners.flare.simulator_main RUN_FOLDER [--isolated]``: one run in FLARE's simulator.

Started by :mod:`fedumm.federation.runners.flare.simulator` in a process of its own, so that FLARE's
output goes to a file and everything it starts can be ended together. With ``--isolated`` it has a network of its own.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from fedumm.federation.runners.flare.isolation import isolate
from fedumm.federation.runners.flare.process_guard import leave_with_launcher, simulated_config

WORKSPACE = "flare"
ISOLATED = "--isolated"


def main(folder: str) -> None:
    """Build the recipe from the folder's ``config.yaml`` and run it."""
    # Only now: a process with threads can't have a network of its own any more.
    from nvflare.app_common.default_component_policy import DEFAULT_CLASS_ALLOW_LIST
    from nvflare.recipe.sim_env import SimEnv

    from fedumm.federation.assignment import host_count, layout
    from fedumm.federation.runners.flare.recipe import SERVER_CLASSES, SITE_CLASSES, FedummRecipe

    leave_with_launcher()
    path = Path(folder).resolve()
    config = simulated_config()
    hosts = host_count(config)
    recipe = FedummRecipe(config, hosts)
    workspace = path / WORKSPACE
    local = workspace / recipe.name / "local"
    # Of the part of the run that is resumed.
    shutil.rmtree(workspace, ignore_errors=True)
    local.mkdir(parents=True)
    allowed = {"format_version": 2, "class_allow_list": [*DEFAULT_CLASS_ALLOW_LIST, *SERVER_CLASSES, *SITE_CLASSES]}
    (local / "resources.json").write_text(json.dumps(allowed))
    clients = list(layout(config))
    recipe.execute(SimEnv(clients=clients, num_threads=hosts, workspace_root=str(workspace), log_config="concise"))


if __name__ == "__main__":
    if sys.argv[2:] == [ISOLATED]:
        isolate()
    main(sys.argv[1])
