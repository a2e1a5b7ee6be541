"""``--plugin``: files that register things of a user's own, run before any other option is read.

So a name that such a file registers is known when options are checked, and what it adds stands in ``--help``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedumm.cli.options import Joined, Parser
from fedumm.config import is_ours, read_yaml
from fedumm.plugins import load_plugins, plugin_files
from fedumm.report.plugin_digest import check_digests
from fedumm.report.run_folder import CONFIG, folder_for_name


def load_named_plugins(argv: Sequence[str], prog: str = "fedumm") -> None:
    """Run the files that the arguments ``argv`` name, and leave all other arguments alone.

    Raises:
        FedummError: a file is missing, fails, registers nothing, or is not the one that the run to resume began with.
    """
    parser = Parser(prog=prog, add_help=False)
    parser.add_argument("--plugin", action=Joined, default="", metavar="FILE")
    for option in ("--config", "--resume", "--name"):
        parser.add_argument(option)
    parser.add_argument("--resume_if_exists", action="store_const", const=True)
    given = {name: value for name, value in vars(parser.parse_known_args(argv)[0]).items() if value is not None}
    if given["plugin"]:
        path = given.pop("config", None)
        load_for_run({**(read_yaml(path) if path else {}), **given})


def load_for_run(options: Mapping[str, Any]) -> None:
    """Run the files that ``plugin`` of a run's ``options`` names.

    Where the options resume a run, they are compared with its digests first: a file that it did not begin with might do
    anything.

    Raises:
        FedummError: a file is missing, fails, registers nothing, or is not the one that the run to resume began with.
    """
    files = plugin_files(str(options.get("plugin") or ""))
    run = options.get("resume") or (options.get("resume_if_exists") and options.get("name"))
    if files and run and is_ours(folder_for_name(str(run)) / CONFIG):
        check_digests(folder_for_name(str(run)), files)
    load_plugins(files, again=True)
