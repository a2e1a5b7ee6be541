"""``--plugin``: files that register things of a user's own, run before any other flag is read.

So a name that such a file registers is known when flags are checked, and what it adds stands in ``--help``.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedumm.cli.options import Joined, Parser
from fedumm.plugins import load_plugins, plugin_files


def load_named_plugins(argv: Sequence[str], prog: str = "fedumm") -> None:
    """Run the files that the arguments ``argv`` name, and leave all other arguments alone.

    Raises:
        FedummError: a file is missing, fails, or registers nothing.
    """
    parser = Parser(prog=prog, add_help=False)
    parser.add_argument("--plugin", action=Joined, default="", metavar="FILE")
    named, _ = parser.parse_known_args(argv)
    load_plugins(plugin_files(named.plugin), again=True)
