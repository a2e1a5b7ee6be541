"""Runs that are there, in a few numbers each: what ``fedumm runs`` lists and ``fedumm compare`` compares."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fedumm.config import command_of, is_ours, read_yaml
from fedumm.errors import FedummError
from fedumm.report.run_folder import CONFIG, LOCK, METRICS, read_records
from fedumm.texts import one_line

State = Literal["finished", "running", "stopped", "empty", "damaged"]

Kind = Literal["federated", "central", "local"]

VERSIONS = ("untrained", "best", "last")
_CENTRAL = "num_epochs"
"""An option that only central runs have."""


@dataclass(frozen=True, kw_only=True)
class Overview:
    """One run, federated or central, finished or not.

    Attributes:
        path: its folder.
        kind: ``federated``; ``central``: then a round is an epoch; or ``local``, each client alone: then a round is a
            client that is done, and the best version's score the mean over clients.
        state: ``stopped`` after ``round`` of ``rounds``; ``empty`` before anything was recorded; ``damaged`` if its
            files can't be read, for the reason ``problem``.
        options: as its ``config.yaml`` has them: of somebody else's folder, anything.
        command: what repeats it.
        scores: by ``untrained``, ``best`` and ``last``, a version's part of a record: ``heldout_tasks``,
            ``test_tasks`` and so on.
        seconds: it took so far.
        bytes_down: sent to hosts in all rounds, and to score the last and draw with the best version; None of a
            central run.
        bytes_up: sent by clients that counted.
        changed: when its records last changed, in seconds since 1970.
        size: of all its files, in bytes.
    """

    path: Path
    kind: Kind
    state: State
    round: int = 0
    rounds: int = 0
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    command: str = ""
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    best_round: int | None = None
    seconds: float | None = None
    bytes_down: int | None = None
    bytes_up: int | None = None
    changed: float = 0.0
    size: int = 0
    problem: str = ""

    @property
    def clients(self) -> int | None:
        """How many there are; None of a central run."""
        count = self.options.get("num_clients")
        return count if isinstance(count, int) and self.kind != "central" else None

    def score(self, version: str, place: str) -> float | None:
        """The mean score (0 to 1) of ``untrained``, ``best`` or ``last`` on ``heldout`` or ``test``."""
        value = self.scores.get(version, {}).get(place)
        return float(value) if isinstance(value, int | float) else None


def find_runs(folder: Path) -> Iterator[Path]:
    """Folders of runs in ``folder``, and in its folders that are no runs: studies. Links are not followed."""
    for own in _folders(folder):
        if is_run(own):
            yield own
        else:
            yield from filter(is_run, _folders(own))


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def is_run(folder: Path) -> bool:
    """Whether there is a federated run in ``folder``, or a central one that keeps records."""
    config = folder / CONFIG
    try:
        return is_ours(config) and ((folder / METRICS).is_file() or "central" not in kind_of(config))
    except OSError:
        return False


def kind_of(config: Path) -> str:
    """``central`` or ``federated``, of the options in the file ``config``."""
    # Of a file of 40 short lines; no YAML is parsed for those that are not listed.
    with open(config, encoding="utf-8", errors="replace") as file:
        return "central" if f"\n{_CENTRAL}:" in file.read(100_000) else "federated"


def overview(folder: Path) -> Overview:
    """Read one run; what can't be read makes it ``damaged``."""
    central = kind_of(folder / CONFIG) == "central"
    kind: Kind = "central" if central else "federated"
    changed, size = _changed(folder), _size(folder)
    try:
        options = read_yaml(folder / CONFIG)
        with open(folder / CONFIG, encoding="utf-8") as file:
            command = command_of(file.readline(100_000))
        records = list(read_records(folder, clients=False)) if (folder / METRICS).is_file() else []
        if any(r["event"] == "setup" and r.get("local_only") for r in records):
            kind, numbers = "local", _local_numbers(records, options)
        else:
            numbers = _numbers(records, central, options)
    except (FedummError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return Overview(
            path=folder, kind=kind, state="damaged", changed=changed, size=size, problem=one_line(error) or "unreadable"
        )
    if numbers["state"] != "finished" and is_locked(folder):
        numbers["state"] = "running"
    return Overview(path=folder, kind=kind, options=options, command=command, changed=changed, size=size, **numbers)


def _local_numbers(records: list[dict[str, Any]], options: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run in which each client trained alone (``fedumm sweep``)."""
    done = [r for r in records if r["event"] == "local"]
    summary: dict[str, Any] = next((r for r in reversed(records) if r["event"] == "summary"), {})
    means = {place: (summary.get("local_only", {}).get(place) or {}).get("mean") for place in ("test", "heldout")}
    wanted, seconds = options.get("num_clients"), summary.get("seconds")
    return {
        "state": "finished" if summary else "stopped",
        "round": len(done),
        "rounds": wanted if isinstance(wanted, int) else 0,
        "scores": {"untrained": dict(summary["untrained"]), "best": means, "last": means} if summary else {},
        "seconds": float(seconds) if isinstance(seconds, int | float) else None,
    }


def _numbers(records: list[dict[str, Any]], central: bool, options: Mapping[str, Any]) -> dict[str, Any]:
    rounds = [r for r in records if r["event"] == ("epoch" if central else "round")]
    last = rounds[-1] if rounds else {}
    done = int(last.get("epoch" if central else "round") or 0)
    summary = next((r for r in reversed(records) if r["event"] == "summary"), None)
    state: State = "finished" if summary else ("stopped" if records else "empty")
    scores = _scores(summary) if summary else _scores_so_far(rounds)
    wanted = options.get(_CENTRAL if central else "num_rounds")
    sent = [*rounds, *(r for r in records if r["event"] in ("final", "drawn"))]
    seconds = (summary or {}).get("seconds", last.get("elapsed"))
    return {
        "state": state,
        "round": done,
        "rounds": wanted if isinstance(wanted, int) else 0,
        "scores": scores,
        "best_round": scores.get("best", {}).get("round"),
        "seconds": float(seconds) if isinstance(seconds, int | float) else None,
        "bytes_down": None if central else sum(int(r.get("bytes_down") or 0) for r in sent),
        "bytes_up": None if central else sum(int(r.get("bytes_up") or 0) for r in rounds),
    }


def _scores(summary: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Of a run that is over; a central one keeps the adapter of its last epoch."""
    found = {name: dict(summary[name]) for name in VERSIONS if summary.get(name)}
    if trained := summary.get("trained"):
        found |= {name: {**trained, "round": summary.get("epochs")} for name in ("best", "last")}
    return found


def _scores_so_far(rounds: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of a run that is not over: a round's record scores the version that the round started from."""
    central = any(r["event"] == "epoch" for r in rounds)
    versions = {int(r["epoch"]) if central else int(r["round"]) - 1: r for r in rounds}
    if not versions:
        return {}
    last = max(versions)
    best = last if central else int(rounds[-1].get("best_round") or 0)
    wanted = {"untrained": 0, "best": best, "last": last}
    return {name: {**versions[v], "round": v} for name, v in wanted.items() if v in versions}


def is_locked(folder: Path) -> bool:
    """Whether a process is using the run: asked without taking its lock, but for an instant."""
    try:
        import fcntl

        file = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def _changed(folder: Path) -> float:
    for name in (METRICS, CONFIG):
        try:
            return (folder / name).stat().st_mtime
        except OSError:
            continue
    return 0.0


def _size(folder: Path) -> int:
    """Of all files below ``folder``, links not followed."""
    total = 0
    for top, _, files in os.walk(folder):
        for name in files:
            try:
                status = os.lstat(os.path.join(top, name))
            except OSError:
                continue
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total
