"""``fedumm kit``: the startup kit of a server or a site, narrowed to what fedumm's jobs need."""

from __future__ import annotations

from pathlib import Path

from fedumm.cli.options import Parser
from fedumm.texts import one_line

DESCRIPTION = """Set in local/resources.json of a server's or a site's startup kit what fedumm's jobs need, and no more.

  fedumm kit heidelberg

One class is admitted; a server or site that is lost is noticed within a minute; what a server keeps lies in its kit,
and not in a temporary folder. Other settings stay. To be done where the kit will stay, and before it is started."""


def main(argv: list[str], prog: str) -> int:
    """Parse, set, tell."""
    parser = Parser(prog=prog, description=DESCRIPTION)
    parser.add_argument("folder", metavar="KIT", help="as NVIDIA FLARE's provisioning made it")
    folder = Path(parser.parse_args(argv).folder)
    from fedumm.federation.runners.flare.kits import narrow

    told = narrow(folder)
    print("\n".join([f"{one_line(folder / 'local' / 'resources.json')}:", *(f"  {line}" for line in told)]))
    return 0
