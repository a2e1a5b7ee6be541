"""``fedumm poc``: a run on a real server and real sites, all of them on this machine."""

from __future__ import annotations

import shlex

from fedumm.cli.federate import check
from fedumm.cli.options import Parser, add_options, config_from
from fedumm.cli.resume import RUNNERS
from fedumm.config import FederateConfig
from fedumm.errors import FedummError

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
    add_options(parser, FederateConfig, argv)
    parsed = parser.parse_args(argv)
    workspace = parsed.workspace
    del parsed.workspace
    config = config_from(parsed, FederateConfig)
    if given := [name for name in RUNNERS if getattr(config, name)]:
        raise FedummError(f"--{given[0]} is another way to run: leave it out, or use 'fedumm federate'.")
    from fedumm.federation.runners.flare.poc import check_poc

    check_poc(config)
    check(config)
    if config.dry_run:
        from fedumm.cli.dry_run import dry_run

        return dry_run(config)
    from fedumm.federation.runners.remote import run_poc

    return run_poc(config, shlex.join([*prog.split(), *argv]), workspace)
