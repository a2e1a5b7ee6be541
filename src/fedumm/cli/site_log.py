"""``fedumm site-log``: what has left a site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedumm.cli.options import Parser
from fedumm.errors import FedummError
from fedumm.federation.runners.flare.outgoing_log import FILE, Entry, read
from fedumm.texts import one_line

DESCRIPTION = """Show what has left a site, a line for each answer that it gave to a server. The site writes this log
itself, each line before its answer goes, and each line holds a digest of the one before.

  fedumm site-log site-1
  fedumm site-log site-1 --job 1f1b1c9e --json

The exit status is 1 if a line was changed, added or taken out. That lines were cut off at the end, the log alone can't
say: note the last digest elsewhere, and give it with --seen."""


def main(argv: list[str], prog: str) -> int:
    """Parse, read, show."""
    parser = Parser(prog=prog, usage="%(prog)s KIT_FOLDER [OPTIONS]", description=DESCRIPTION)
    parser.add_argument("folder", metavar="KIT_FOLDER", help="the site's startup kit")
    parser.add_argument("--job", default="", metavar="ID", help="lines of this job only: the beginning of its number")
    parser.add_argument(
        "--seen", default="", metavar="DIGEST", help="a digest noted at an earlier look: it must be there"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, one list of all")
    args = parser.parse_args(argv)
    folder = Path(args.folder)
    if not folder.is_dir():
        raise FedummError(f"{one_line(args.folder)}: no such folder.")
    entries = list(read(folder / FILE))
    shown = [entry for entry in entries if not args.job or _text(entry, "job").startswith(args.job)]
    problems = [f"line {entry.number}: {entry.problem}" for entry in entries if entry.problem]
    if args.seen and not any(args.seen in (entry.digest, _text(entry, "before")) for entry in entries):
        problems.append(f"no line has the digest {one_line(args.seen, 64)}: lines were cut off or changed")
    if args.json:
        print(json.dumps([_as_json(entry) for entry in shown], indent=1))
    else:
        _show(shown)
        for entry in shown:
            if entry.content is None:
                print(f"line {entry.number}: a part of a line. Its writer was stopped, and its answer did not go.")
        for problem in problems:
            print(f"FAULT  {problem}")
        if not problems:
            last = entries[-1].digest if entries else "-"
            print(f"{len(entries):,} lines, each follows the one before. Digest of the last: {last}")
    return 1 if problems else 0


def _text(entry: Entry, name: str) -> str:
    return str((entry.content or {}).get(name) or "")


def _as_json(entry: Entry) -> dict[str, Any]:
    return {"line": entry.number, **(entry.content or {}), "digest_of_line": entry.digest, "problem": entry.problem}


def _show(entries: list[Entry]) -> None:
    from fedumm.report.tables import Column, print_table

    rows = [entry for entry in entries if entry.content is not None]

    def column(name: str, length: int) -> list[str]:
        return [one_line(_text(entry, name) or "-", length) for entry in rows]

    print_table(
        [
            Column("time", [text[:19].replace("T", " ") for text in column("time", 40)]),
            Column("job", [text[:8] for text in column("job", 60)]),
            Column("submitter", column("submitter", 40), 3),
            Column("round", column("round", 10), 0, "right"),
            Column("message", column("kind", 20)),
            Column("tensors", [_tensors(entry.content) for entry in rows], 1, "right"),
            Column("MB", [f"{_number(entry.content, 'bytes') / 1e6:.2f}" for entry in rows], 0, "right"),
            Column("digest", [text[:12] for text in column("digest", 64)], 4),
            Column("numbers and texts", [_told(entry.content) for entry in rows], 2),
        ]
    )


def _number(content: Any, name: str) -> float:
    value = content.get(name) if isinstance(content, dict) else None
    return float(value) if isinstance(value, int | float) else 0.0


def _tensors(content: Any) -> str:
    """All of a line."""
    found = [own["tensors"] for own in _payloads(content)]
    return "-" if not found else "?" if None in found else f"{sum(found):,}"


def _payloads(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        if value.keys() == {"tensors", "bytes", "sha256"}:
            return [value]
        value = list(value.values())
    return [own for part in value for own in _payloads(part)] if isinstance(value, list) else []


def _told(content: Any) -> str:
    """What a reader looks for first; ``--json`` has all."""
    own = content.get("content") if isinstance(content, dict) else None
    if not isinstance(own, dict):
        return "-"
    parts = [one_line(own["message"], 60)] if own.get("message") else []
    parts += _clients(own.get("clients")) + [part for update in own.get("updates") or [] for part in _update(update)]
    parts += _scores("common test", own.get("test"))
    if "test_samples" in own:
        parts.append(f"{_number(own, 'test_samples'):,.0f} test rows, {one_line(own.get('device', ''), 20)}")
    return "; ".join(parts) or "-"


def _clients(value: Any) -> list[str]:
    if not isinstance(value, dict):
        return []
    return [
        f"{one_line(name, 30)}: {_number(own, 'train'):,.0f} rows to train on, {_number(own, 'heldout'):,.0f} held out"
        + (", ranks of labels" if isinstance(own, dict) and own.get("labels") else "")
        for name, own in list(value.items())[:3]
    ]


def _update(value: Any) -> list[str]:
    if not isinstance(value, dict):
        return []
    if value.get("error"):
        return [one_line(value["error"], 60)]
    samples = _number(value, "num_samples")
    loss = one_line(value.get("train_loss"), 6)
    rows = [f"{samples:,.0f} samples, loss {loss}"] if samples else []
    return rows + _scores("before", value.get("before")) + _scores("after", value.get("after"))


def _scores(what: str, value: Any) -> list[str]:
    if not isinstance(value, dict):
        return []
    return [f"{what} {one_line(task, 10)} {_number(own, 'score'):.4g}" for task, own in value.items()]
