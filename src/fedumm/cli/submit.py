"""``fedumm submit``: a job for a federation that is up."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path

from fedumm.cli.federate import check
from fedumm.cli.options import Parser, add_options, config_from
from fedumm.cli.resume import RUNNERS, resumed
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.output import check_folder
from fedumm.report.run_folder import folder_for_name

DESCRIPTION = """Hand in a job to the server of a federation, as its administrator, and watch it as a run here.

  fedumm submit --startup_kit kits/admin@example.com --model_backend blip_vqa --dataset chest_xray --partition own \\
      --num_clients 2 --num_rounds 10 --name chest

Ctrl-C ends the watching, and not the job. With --resume NAME (a run folder here, or the number of a job, with its
options) a run whose job was stopped goes on after its last finished round, as if nothing had been."""


def main(argv: list[str], prog: str) -> int:
    """Parse, check, submit, watch."""
    parser = Parser(prog=prog, usage="%(prog)s --startup_kit DIR [OPTIONS]", description=DESCRIPTION)
    parser.add_argument("--startup_kit", required=True, metavar="DIR", help="the administrator's startup kit")
    parser.add_argument("--detach", action="store_true", help="hand it in, and do not watch it")
    add_options(parser, FederateConfig, argv)
    parsed = parser.parse_args(argv)
    kit, detach = Path(parsed.startup_kit), parsed.detach
    del parsed.startup_kit, parsed.detach
    resumes = ""
    if getattr(parsed, "resume", ""):
        config, resumes = _resumed(parsed)
    else:
        config = config_from(parsed, FederateConfig)
    if given := [name for name in (*RUNNERS, "dry_run") if getattr(config, name)]:
        raise FedummError(f"--{given[0]} is not for jobs at a server: leave it out, or use 'fedumm federate'.")
    # What is asked of an exported job holds here: its model, its data and its caches are at the sites.
    check(replace(config, export_dir="."))
    if config.name and not detach:
        from fedumm.report.run_folder import folder_for

        check_folder("name", folder_for(config))
    from fedumm.federation.runners.flare.jobs import admin_kit

    admin_kit(kit)
    from fedumm.federation.runners.remote import submit

    return submit(config, shlex.join([*prog.split(), *argv]), kit, detach, resumes)


def _resumed(parsed: argparse.Namespace) -> tuple[FederateConfig, str]:
    """The options of the run in a folder here, or those that are given of the job of that number."""
    from fedumm.federation.runners.flare.kept_run import read_run

    given = {name: value for name, value in vars(parsed).items() if value is not None}
    if run := read_run(folder_for_name(parsed.resume)):
        config = resumed(given)
        return (replace(config, overwrite=True, resume=""), run) if config.resume else (config, "")
    if given.get("without"):
        raise FedummError(
            "--without repeats the run of a folder here. Of a job that has none, leave --resume out and give its "
            "options: it then begins anew without them."
        )
    del parsed.resume
    return config_from(parsed, FederateConfig), given["resume"]
