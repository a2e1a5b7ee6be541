"""``fedumm schema``: the JSON schema of ``config.yaml``, for editors."""

from __future__ import annotations

import json

from fedumm.aggregation import available_aggregators
from fedumm.cli.options import Joined, Parser
from fedumm.config import CODE, CentralConfig, FederateConfig, RunConfig
from fedumm.config.schema import json_schema
from fedumm.run_options import described_options

DESCRIPTION = """Print the JSON schema of a YAML file of options (config.yaml), by which editors complete and check it.

  fedumm schema > fedumm.schema.json

The file's first line, for editors with the YAML language server: # yaml-language-server: $schema=fedumm.schema.json"""

COMMANDS: dict[str, type[RunConfig]] = {"federate": FederateConfig, "train": CentralConfig}


def main(argv: list[str], prog: str) -> int:
    """Print it."""
    parser = Parser(prog=prog, usage="%(prog)s [COMMAND] [--plugin FILE]", description=DESCRIPTION)
    parser.add_argument(
        "command", metavar="COMMAND", nargs="?", choices=COMMANDS, default="federate",
        help="whose options: federate (default) or train",
    )  # fmt: skip
    parser.add_argument("--plugin", action=Joined, metavar="FILE", help="a plugin whose options are in it, too")
    config = COMMANDS[parser.parse_args(argv).command]
    names = {"aggregator": available_aggregators()}
    print(json.dumps(json_schema(described_options(config), names, without=CODE), indent=2))
    return 0
