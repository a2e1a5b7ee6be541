"""``fedumm poc``: a run on a real server and real sites, all of them on this machine."""

from __future__ import annotations

import shlex
from dataclasses import replace

from fedumm.cli.federate import check
from fedumm.cli.options import Parser, add_options, config_from
from fedumm.cli.resume import RUNNERS
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.report.run_folder import folder_for

DESCRIPTION = """A federation on this machine: a server and a process for each site, which know each other by
certificates only and are connected by TLS, as on real sites. Provisioned, started, fed the job, watched and ended.

  fedumm poc --model_backend blip_vqa --model_name_or_path tiny --dataset easy_vqa --num_clients 2 --num_rounds 3 \\
      --max_train_samples 500 --max_eval_samples 100"""


def main(argv: list[str], prog: str) -> int:
    """Parse, check, run."""
    parser = Parser(prog=prog, description=DESCRIPTION)
    parser.add_argument(
        "--workspace", default="", metavar="DIR", help="new folder that keeps the startup kits (default: none)"
    )
    parser.add_argument(
        "--slurm", action="store_true", help="in a job of 'fedumm slurm --nodes': server and sites are steps of it"
    )
    add_options(parser, FederateConfig, argv)
    parsed = parser.parse_args(argv)
    workspace, slurm = parsed.workspace, parsed.slurm
    del parsed.workspace, parsed.slurm
    config = config_from(parsed, FederateConfig)
    if given := [name for name in RUNNERS if getattr(config, name)]:
        raise FedummError(f"--{given[0]} is another way to run: leave it out, or use 'fedumm federate'.")
    from fedumm.federation.runners.flare.poc import check_poc

    check_poc(config)
    if slurm:
        return _steps(config, workspace, shlex.join([*prog.split(), *argv]))
    check(config)
    if config.dry_run:
        from fedumm.cli.dry_run import dry_run

        return dry_run(config)
    from fedumm.federation.runners.own_kits import run_poc

    return run_poc(config, shlex.join([*prog.split(), *argv]), workspace)


def _steps(config: FederateConfig, workspace: str, command: str) -> int:
    """Carry out the run, or what is left of it, in the Slurm job in which this process is."""
    from fedumm.federation.runners.allocation import this_allocation

    if workspace or config.dry_run:
        raise FedummError(f"--slurm can't be combined with {'--workspace' if workspace else '--dry_run'}.")
    if not config.name:
        raise FedummError("--slurm needs a --name: a job that is queued again finds its run by it.")
    allocation = this_allocation()
    allocation.share(config)
    checked = check(replace(config, resume_if_exists=True))
    if checked is None:
        print(f"The run in {folder_for(config)} is finished.")
        return 0
    from fedumm.federation.runners.own_kits import run_steps

    return run_steps(checked, command, allocation)
