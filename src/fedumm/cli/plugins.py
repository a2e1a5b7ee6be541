"""``--plugin``: files that register things of a user's own, run before any other flag is read.

So a name that such a file registers is known when flags are checked, and what it adds stands in ``--help``.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedumm.cli.options import Joined, Parser
from fedumm.config import is_ours
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
    parser.add_argument("--resume", default="")
    parser.add_argument("--resume_if_exists", action="store_true")
    parser.add_argument("--name", default="")
    named, _ = parser.parse_known_args(argv)
    run = named.resume or (named.name if named.resume_if_exists else "")
    if named.plugin and run and is_ours(folder_for_name(run) / CONFIG):
        # Before they are run: other files than those of the run may do anything.
        check_digests(folder_for_name(run), plugin_files(named.plugin))
    load_plugins(plugin_files(named.plugin), again=True)
