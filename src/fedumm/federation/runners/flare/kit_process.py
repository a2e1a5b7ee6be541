"""``python -m fedumm.federation.runners.flare.kit_process KIT``: FLARE's server or client of one startup kit.

What ``startup/sub_start.sh --once`` runs, in this Python; and it ends, with all that it has started, when the process
that started it is gone (:func:`fedumm.federation.runners.flare.process_guard.leave_with_launcher`).
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

from fedumm.federation.runners.flare.kits import ORGANISATION
from fedumm.federation.runners.flare.process_guard import leave_with_launcher


def main(kit: Path) -> None:
    """Run it to its end."""
    leave_with_launcher()
    own = kit / "startup" / "fed_client.json"
    kind, settings = "server", list[str]()
    if own.exists():
        kind, settings = "client", [f"uid={json.loads(own.read_text(encoding='utf-8'))['client']['fqsn']}"]
    module = f"nvflare.private.fed.app.{kind}.{kind}_train"
    settings = ["secure_train=true", *settings, f"org={ORGANISATION}", "config_folder=config"]
    sys.argv = [module, "-m", str(kit), "-s", f"fed_{kind}.json", "--set", *settings]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
