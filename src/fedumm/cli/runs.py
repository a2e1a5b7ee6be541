"""``fedumm runs``: which runs there are, and how far they are."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fedumm.cli.options import Parser
from fedumm.config import CentralConfig
from fedumm.errors import FedummError
from fedumm.formatting import percent, scores_text
from fedumm.report.overview import Overview, find_runs, is_run, overview
from fedumm.report.run_folder import RUNS

DESCRIPTION = """List the runs in a folder: their state, best score, clients, rounds, age and size.

  fedumm runs
  fedumm runs studies/table1 --json"""


def main(argv: list[str], prog: str) -> int:
    """Parse, look, list."""
    parser = Parser(prog=prog, usage="%(prog)s [DIR] [OPTIONS]", description=DESCRIPTION)
    parser.add_argument("folder", nargs="?", metavar="DIR", default="", help=f"where runs are (default: {RUNS})")
    parser.add_argument("--json", action="store_true", help="print JSON, one list of all")
    args = parser.parse_args(argv)
    runs = sorted((overview(path) for path in _paths(args.folder)), key=lambda run: (-run.changed, str(run.path)))
    if args.json:
        print(json.dumps([as_json(run, time.time()) for run in runs], indent=1))
    elif runs:
        _show(runs, Path(args.folder or RUNS))
    else:
        print(f"No runs in {args.folder or RUNS}.")
    return 0


def _paths(folder: str) -> list[Path]:
    if folder and not Path(folder).is_dir():
        raise FedummError(f"{folder}: no such folder.")
    found = list(find_runs(Path(folder or RUNS)))
    if folder:
        # A folder of a run lists itself.
        return [Path(folder)] if is_run(Path(folder)) else found
    central = Path(str(CentralConfig.output_dir))
    return [*found, central] if is_run(central) else found


def _show(runs: Sequence[Overview], folder: Path) -> None:
    from fedumm.report.tables import Column, print_table

    now = time.time()
    print_table(
        [
            Column("run", [_name(run, folder) for run in runs]),
            Column("state", [state_text(run) for run in runs]),
            Column("untrained", [_score(run, "untrained") for run in runs], 2, "right"),
            Column("best", [_score(run, "best") for run in runs], 0, "right"),
            Column("held-out", [shown_score(run, "best", "heldout") for run in runs], 3, "right"),
            Column("clients", ["-" if run.clients is None else f"{run.clients:,}" for run in runs], 1, "right"),
            Column("aggregator", [str(run.options.get("aggregator", "-")) for run in runs], 6),
            Column("data", [_data(run) for run in runs], 5),
            Column("age", [age_text(now - run.changed) for run in runs], 1, "right"),
            Column("size", [size_text(run.size) for run in runs], 4, "right"),
        ]
    )


def _name(run: Overview, folder: Path) -> str:
    return str(run.path.relative_to(folder)) if folder in run.path.parents else str(run.path)


def _data(run: Overview) -> str:
    if not run.options:
        return "-"
    name = str(run.options.get("dataset") or "default")
    return f".../{Path(name).name}" if "/" in name[:-1] and len(name) > 20 else name


def shown_score(run: Overview, version: str, place: str) -> str:
    """By task; of runs in which each client trained alone, the mean over clients and tasks."""
    text, mean = scores_text(run.scores.get(version, {}), place), run.score(version, place)
    return percent(mean) if text == "-" and mean is not None else text


def _score(run: Overview, version: str) -> str:
    """On the common test set, or where there is none on held-out data."""
    text = shown_score(run, version, "test")
    return text if text != "-" else shown_score(run, version, "heldout")


def state_text(run: Overview) -> str:
    """``finished (3)``, ``running (2 of 3)``: rounds, or of a central run epochs."""
    if run.state in ("empty", "damaged"):
        return run.state
    rounds = f"{run.round}/{run.rounds}" if run.state != "finished" else str(run.round)
    unit = {"central": "epochs", "local": "clients alone"}.get(run.kind, "rounds")
    return f"{run.state}, {rounds} {unit if rounds != '1' or run.kind == 'local' else unit[:-1]}"


def age_text(seconds: float) -> str:
    """``42 s``, ``12 min``, ``5 h``, ``3 d``."""
    for unit, size, most in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 48 * 3600)):
        if seconds < most:
            return f"{max(seconds, 0) / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def size_text(count: int) -> str:
    """``0.3 MB``, ``2.1 GB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def as_json(run: Overview, now: float) -> dict[str, Any]:
    """What ``--json`` prints of a run: scores 0 to 1 (of images drawn a share of surprise spared), seconds, bytes."""
    names = ("model_backend", "model_name_or_path", "dataset", "task", "dirichlet_alpha", "aggregator", "lr", "seed")
    return {
        "path": str(run.path),
        "kind": run.kind,
        "state": run.state,
        "round": run.round,
        "rounds": run.rounds,
        "clients": run.clients,
        "best_round": run.best_round,
        **{name: {"heldout": run.score(name, "heldout"), "test": run.score(name, "test")}
           for name in ("untrained", "best", "last") if name in run.scores},
        "options": {name: run.options[name] for name in names if name in run.options},
        "command": run.command,
        "seconds": run.seconds,
        "bytes_down": run.bytes_down,
        "bytes_up": run.bytes_up,
        "changed": datetime.fromtimestamp(run.changed, timezone.utc).isoformat(timespec="seconds"),
        "age": round(now - run.changed, 1),
        "size": run.size,
        "problem": run.problem,
    }  # fmt: skip
