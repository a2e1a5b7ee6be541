"""All that a run's folder tells of it. The folder may be somebody else's: what is no number counts as missing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fedumm.errors import FedummError
from fedumm.federation.assignment import natural
from fedumm.report.overview import Overview, is_run, overview
from fedumm.report.partition_file import PARTITION
from fedumm.report.run_folder import METRICS, read_records
from fedumm.run_events import Record

_LARGEST = 100_000_000
"""Bytes of a file of JSON that is read whole."""

Point = tuple[float, float]


def number(value: object) -> float | None:
    """``value``, if it is a finite number."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None  # type: ignore[arg-type]


def mapping(value: object) -> Mapping[str, Any]:
    """``value``, if it is an object of JSON; else an empty one."""
    return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class History:
    """One run, read back.

    Attributes:
        run: its numbers in short.
        setup: the record of that name; empty if there is none.
        rounds: a record a round, or of a central run an epoch (0: before the first), in order.
        clients: records of clients by round.
        final: the record that scores the last version; empty if there is none.
        alone: of a run in which each client trained alone, its record by client.
        others: all further records, in order.
        partition: what ``partition.json`` holds; empty if there is none.
        data: what ``data.json`` holds.
    """

    run: Overview
    setup: Record = field(default_factory=dict)
    rounds: tuple[Record, ...] = ()
    clients: Mapping[int, tuple[Record, ...]] = field(default_factory=dict)
    final: Record = field(default_factory=dict)
    alone: Mapping[str, Record] = field(default_factory=dict)
    others: tuple[Record, ...] = ()
    partition: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.run.path

    @property
    def options(self) -> Mapping[str, Any]:
        """As ``config.yaml`` has them."""
        return self.run.options

    @cached_property
    def names(self) -> list[str]:
        """The clients, in their order."""
        found = {*mapping(self.setup.get("clients")), *mapping(self.partition.get("clients"))}
        found |= {str(r["client"]) for records in self.clients.values() for r in records} | self.alone.keys()
        return sorted(found, key=natural)

    @cached_property
    def versions(self) -> list[tuple[int, Record]]:
        """What each version of the adapter scored, by its number: a round's record scores the one that it begins from.

        Of a central run, the record of an epoch scores what came of it.
        """
        if self.run.kind == "central":
            return [(int(r["epoch"]), r) for r in self.rounds]
        found = [(int(r["round"]) - 1, r) for r in self.rounds]
        return [*found, (int(self.final["round"]), self.final)] if self.final else found

    def of_clients(self, key: str, most: float = math.inf) -> dict[str, list[Point]]:
        """By client, the number ``key`` of its records by round; those that have none are left out."""
        found: dict[str, list[Point]] = {}
        for place, records in self.clients.items():
            for record in records:
                value = number(record.get(key))
                if value is not None and abs(value) <= most:
                    found.setdefault(str(record["client"]), []).append((place, value))
        return {name: found[name] for name in self.names if name in found}

    def of_rounds(self, key: str) -> list[Point]:
        """The number ``key`` by round."""
        unit = "epoch" if self.run.kind == "central" else "round"
        pairs = [(float(r[unit]), number(r.get(key))) for r in self.rounds]
        return [(place, value) for place, value in pairs if value is not None]


def read_history(folder: Path) -> History:
    """Read a run's folder.

    Raises:
        FedummError: there is no run in it, it has recorded nothing yet, or it is damaged.
    """
    if not is_run(folder):
        raise FedummError(f"{folder}: there is no run in that folder (a {METRICS} and the config.yaml of a run).")
    run = overview(folder)
    if run.state == "damaged":
        raise FedummError(f"The run in {folder} can't be read: {run.problem}")
    if run.state == "empty" or not (folder / METRICS).is_file():
        raise FedummError(f"The run in {folder} has recorded nothing yet.")
    try:
        return _read(run)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FedummError(f"{folder / METRICS} can't be read: {type(error).__name__} {error}") from error


def _read(run: Overview) -> History:
    setup: Record = {}
    final: Record = {}
    rounds: dict[int, Record] = {}
    clients: dict[int, dict[str, Record]] = {}
    alone: dict[str, Record] = {}
    others = []
    for record in read_records(run.path):
        match record["event"]:
            case "setup":
                setup = record
            case "round" | "epoch":
                rounds[int(record[record["event"]])] = record
            case "client":
                # Of a round that was done again, the last one.
                clients.setdefault(int(record["round"]), {})[str(record["client"])] = record
            case "local":
                alone[str(record["client"])] = record
            case "final":
                final = record
            case _:
                others.append(record)
    ordered = tuple(rounds[place] for place in sorted(rounds))
    by_round = {place: tuple(clients[place].values()) for place in sorted(clients)}
    files = _json(run.path / PARTITION), _json(run.path / "data.json")
    return History(run, setup, ordered, by_round, final, alone, tuple(others), *files)


def _json(path: Path) -> Mapping[str, Any]:
    """An object of JSON; empty if there is none that can be read."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return {}
        return mapping(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return {}
