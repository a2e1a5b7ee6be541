"""``fedumm watch``: a job of a federation, shown as a run here."""

from __future__ import annotations

import shlex
from pathlib import Path

from fedumm.cli.options import Parser
from fedumm.output import check_folder
from fedumm.report.run_folder import folder_for_name

DESCRIPTION = """Show a job as it runs at the server of a federation, then fetch its result into a run folder.

  fedumm watch 54d4ddd2-6027-4709-98d3-bb502f7b8724 --startup_kit kits/admin@example.com --name chest

Ctrl-C ends the watching, and not the job. The exit status is 0 only if the job completed with a result."""


def main(argv: list[str], prog: str) -> int:
    """Parse, check, watch."""
    parser = Parser(prog=prog, usage="%(prog)s JOB --startup_kit DIR [OPTIONS]", description=DESCRIPTION)
    parser.add_argument("job", metavar="JOB", help="number of the job, as 'fedumm submit' shows it")
    parser.add_argument("--startup_kit", required=True, metavar="DIR", help="an administrator's startup kit")
    parser.add_argument("--name", default="", help="run folder: runs/NAME, or a path (default: a name with the job's)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing run folder")
    args = parser.parse_args(argv)
    if args.name:
        check_folder("name", folder_for_name(args.name))
    from fedumm.federation.runners.flare.jobs import admin_kit

    admin_kit(Path(args.startup_kit))
    from fedumm.federation.runners.remote import watch

    return watch(args.job, Path(args.startup_kit), args.name, args.overwrite, shlex.join([*prog.split(), *argv]))
