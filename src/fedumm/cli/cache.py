"""``fedumm cache``: what is stored of images' features, whether it is sound, and room."""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from fedumm.cli.options import Parser
from fedumm.errors import FedummError
from fedumm.texts import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedumm.features.holdings import Damage, Holding
    from fedumm.features.rights import Rights
    from fedumm.report.console import Screen

DESCRIPTION = """List the features of images that runs have stored (--feature_cache), by frozen stage.

  fedumm cache                                   what there is
  fedumm cache --verify                          read all of it, and compare it with its checksums
  fedumm cache --prune --older_than 30           remove what no run has used for 30 days
  fedumm cache --prune --max_gb 100              remove the largest until the rest takes at most 100 GB

Runs make again what they need. What a running process uses is never removed."""

DAMAGED = 1
"""Status where --verify found something."""


def main(argv: list[str], prog: str) -> int:
    """Parse, look, verify, remove."""
    args = _parsed(argv, prog)

    from fedumm.features.holdings import holdings, to_prune, verify
    from fedumm.features.options import default_folder, is_named
    from fedumm.features.rights import NotOursError, Rights
    from fedumm.report.console import RunConsole, Screen

    top = Path(args.feature_cache_dir).expanduser() if args.feature_cache_dir else default_folder()
    screen = Screen(stderr=args.json)
    try:
        rights = Rights.of(top, is_named(args.feature_cache_dir))
        found, left = holdings(top, rights)
    except NotOursError as error:
        raise FedummError(f"{error}.") from error
    damaged: list[Damage] | None = None
    if args.verify:
        with RunConsole(Screen(stderr=True)) as console:
            damaged = verify(top, rights, found, console.progress)
    if args.json:
        print(json.dumps(_as_json(top, found, damaged), indent=2))
    else:
        _show(top, found, left, damaged, screen)
    if args.prune:
        most = None if args.max_gb is None else args.max_gb * 1e9
        _prune(top, rights, to_prune(found, args.older_than, most), screen, args.yes)
    return DAMAGED if damaged else 0


def _parsed(argv: list[str], prog: str) -> argparse.Namespace:
    parser = Parser(prog=prog, description=DESCRIPTION)
    parser.add_argument(
        "--feature_cache_dir",
        default="",
        help="the cache's folder (default: FEDUMM_CACHE, or fedumm in the user's cache)",
    )
    parser.add_argument("--verify", action="store_true", help="read all files and compare them with their checksums")
    parser.add_argument("--prune", action="store_true", help="remove what --older_than and --max_gb say")
    parser.add_argument("--older_than", type=_limit, metavar="DAYS", help="with --prune: not used for so many days")
    parser.add_argument("--max_gb", type=_limit, metavar="GB", help="with --prune: the largest, until so much is left")
    parser.add_argument("--yes", action="store_true", help="with --prune: do not ask")
    parser.add_argument("--json", action="store_true", help="print the list as JSON")
    args: argparse.Namespace = parser.parse_args(argv)
    limits = args.older_than is not None or args.max_gb is not None
    if args.prune and not limits:
        raise FedummError("--prune needs --older_than DAYS, --max_gb GB or both, to say what may go.")
    if limits and not args.prune:
        raise FedummError("--older_than and --max_gb say what --prune removes: add --prune.")
    if args.prune and args.json and not args.yes:
        raise FedummError("--json asks no questions: add --yes to remove what --prune finds.")
    return args


def _limit(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError
    return value


_limit.__name__ = "number that is not negative"
"""As argparse says it."""


def _as_json(top: Path, found: Sequence[Holding], damaged: Sequence[Damage] | None) -> dict[str, object]:
    facts: dict[str, object] = {
        "folder": str(top),
        "bytes": sum(holding.bytes for holding in found),
        "stages": [asdict(h) | {"folder": str(h.folder), "used": _when(h.used).isoformat()} for h in found],
    }
    if damaged is not None:
        facts["damaged"] = [asdict(damage) | {"path": str(damage.path)} for damage in damaged]
    return facts


def _when(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def _show(
    top: Path, found: Sequence[Holding], left: Sequence[str], damaged: Sequence[Damage] | None, screen: Screen
) -> None:
    if found:
        _print_table(top, found, screen)
    else:
        screen.print(f"{top}: no features are stored.", soft_wrap=True)
    for line in left:
        screen.print(f"! {one_line(line, 500)}; it is left alone.", style="yellow", soft_wrap=True)
    if damaged is None:
        return
    for holding in found:
        if not holding.readable:
            where = f"! {holding.folder} was made by another version of fedumm, and is not verified."
            screen.print(where, style="yellow", soft_wrap=True)
    for damage in damaged:
        line = f"! {damage.path}: {one_line(damage.reason, 200)} ({damage.images:,} images)"
        screen.print(line, style="yellow", soft_wrap=True)
    if damaged:
        screen.print(f"{len(damaged):,} file(s) are damaged. A run that needs them makes them again.")
    else:
        screen.print("Everything is as it was written.")


def _print_table(top: Path, found: Sequence[Holding], screen: Screen) -> None:
    from rich.table import Table

    total = sum(holding.bytes for holding in found)
    table = Table("features", "model", "kept as", title=f"{top}: {_gb(total)} GB", title_justify="left")
    for name in ("images", "GB"):
        table.add_column(name, justify="right")
    table.add_column("last used (UTC)")
    table.add_column("folder")
    for h in found:
        used = "now" if h.in_use else f"{_when(h.used):%Y-%m-%d %H:%M}"
        named = [one_line(text, 60) or "-" for text in (h.stage, h.model, h.dtype)]
        table.add_row(*named, f"{h.images:,}", _gb(h.bytes), used, h.folder.name[:8])
    if not sys.stdout.isatty():
        screen.width = 160  # in a file no line is too long
    screen.print(table)


def _gb(count: float) -> str:
    return f"{count / 1e9:,.3f}"


def _prune(top: Path, rights: Rights, gone: Sequence[Holding], screen: Screen, yes: bool) -> None:
    from fedumm.features.holdings import remove

    if not gone:
        screen.print("Nothing to remove.")
        return
    for h in gone:
        screen.print(f"To be removed: {h.folder} ({one_line(h.stage, 60)}, {_gb(h.bytes)} GB)", soft_wrap=True)
    size = f"{_gb(sum(h.bytes for h in gone))} GB"
    if not yes and not _agreed(f"Remove {len(gone)} folder(s), {size}? [y/N] "):
        screen.print("Nothing was removed.")
        return
    kept = [reason for h in gone if (reason := remove(top, rights, h))]
    for reason in kept:
        screen.print(f"! Not removed: {reason}", style="yellow", soft_wrap=True)
    screen.print(f"Removed: {len(gone) - len(kept)} of {len(gone)} folder(s).")


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise FedummError("Nobody can be asked here: add --yes to remove them.")
    return input(question).strip().lower() in ("y", "yes")
