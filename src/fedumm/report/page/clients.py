"""Clients for the page: how the data are split, how evenly scores are spread, drift, who was left out and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from fedumm.formatting import percent
from fedumm.report.figures import label_table
from fedumm.report.page.charts import Chart, Line, line_chart
from fedumm.report.page.divergence import distances
from fedumm.report.page.fairness import Spread, spread
from fedumm.report.page.history import History, mapping, number
from fedumm.report.page.scores import by_client, trained

MOST_ROWS = 60
"""Clients in a table."""

_MOST_LINES = 200


@dataclass(frozen=True)
class Split:
    """Who has what.

    Attributes:
        labels: the most frequent ones, and ``other``.
        rows: by client: its rows of each label with their share of all that it has, all its training rows, its
            held-out rows, and the distance of its labels to all clients'.
        hidden: clients that are not in ``rows``.
        method: in words.
        mean, largest: of the distances; None where labels are not known.
    """

    labels: list[str]
    rows: list[tuple[str, list[tuple[int, float]], int, int, float | None]]
    hidden: int
    method: str
    mean: float | None
    largest: float | None


def split(history: History) -> Split | None:
    """By ``partition.json``; None if there is none."""
    clients = {str(name): mapping(own) for name, own in mapping(history.partition.get("clients")).items()}
    if not clients:
        return None
    counts = {
        name: {
            str(label): int(count) for label, found in mapping(own.get("labels")).items() if (count := number(found))
        }
        for name, own in clients.items()
    }
    known = {name: own for name, own in counts.items() if own}
    far = distances(known) if known else {}
    labels, table = label_table(counts)
    rows = []
    for name, row in list(zip(counts, table, strict=True))[:MOST_ROWS]:
        train, heldout = (int(number(clients[name].get(key)) or 0) for key in ("train", "heldout"))
        cells = [(count, count / (sum(row) or 1)) for count in row]
        rows.append((name, cells, train, heldout, far.get(name)))
    found = list(far.values())
    method = _method(history.partition)
    return Split(
        labels, rows, len(clients) - len(rows), method, fmean(found) if found else None, max(found, default=None)
    )


def _method(partition: Mapping[str, Any]) -> str:
    name, alpha = partition.get("method"), number(partition.get("alpha"))
    if name == "dirichlet" and alpha:
        return f"Dirichlet({alpha:g}) over {partition.get('by')}"
    return {"iid": "IID", "own": "each client has its own data"}.get(str(name), str(name))


Spreads = list[tuple[str, list[tuple[str, Spread]]]]
"""By what is scored: adapters, and how their scores are spread over clients."""


def fairness(history: History) -> Spreads:
    """Of the untrained and the best adapter; nothing where fewer than two clients were scored."""
    return [("held-out scores of clients", own)] if (own := spreads(history, "heldout_clients")) else []


def spreads(history: History, key: str) -> list[tuple[str, Spread]]:
    """Of the scores by client that versions have as ``key``."""
    names = (("untrained", "untrained"), ("best", trained(history)))
    return [(shown, own) for name, shown in names if (own := spread(by_name(history, name, key)))]


def by_name(history: History, version: str, key: str = "heldout_clients") -> dict[str, float]:
    """A version's scores by client."""
    found = mapping(history.run.scores.get(version, {}).get(key))
    return {str(name): score for name, value in found.items() if (score := number(value)) is not None}


def clients_table(history: History) -> tuple[list[str], list[list[str]], int]:
    """Headings, rows and how many clients are in no row; those with the lowest scores come first."""
    before, after = by_name(history, "untrained"), by_name(history, "best")
    local, cosines = history.of_clients("heldout_after"), history.of_clients("cosine", 1.001)
    trained, rejected = _took_part(history)
    sizes = mapping(history.setup.get("clients"))
    headings = ["client", "training rows", "held-out rows", "untrained", "best adapter", "after own training",
                "drift (cosine)", "rounds", "rejected"]  # fmt: skip
    order = sorted(history.names, key=lambda name: (after.get(name, 2.0), history.names.index(name)))
    rows = []
    for name in order[:MOST_ROWS]:
        own = mapping(sizes.get(name))
        rows.append(
            [
                name,
                *(f"{int(number(own.get(key)) or 0):,}" for key in ("train", "heldout")),
                percent(before.get(name)),
                percent(after.get(name)),
                percent(local[name][-1][1] if name in local else None),
                f"{fmean(value for _, value in cosines[name]):.2f}" if name in cosines else "-",
                str(trained.get(name, 0)),
                str(rejected.get(name, 0)),
            ]
        )
    return *filled(headings, rows), len(order) - len(rows)


def filled(headings: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """A table without columns in which there is nothing."""
    kept = [place for place in range(len(headings)) if place == 0 or any(row[place] not in ("-", "0") for row in rows)]
    return [headings[place] for place in kept], [[row[place] for place in kept] for row in rows]


def _took_part(history: History) -> tuple[dict[str, int], dict[str, int]]:
    """By client, in how many rounds its update counted, and in how many it was rejected."""
    trained: dict[str, int] = {}
    rejected: dict[str, int] = {}
    for records in history.clients.values():
        for record in records:
            counts = rejected if record.get("rejected") else trained
            counts[str(record["client"])] = counts.get(str(record["client"]), 0) + 1
    return trained, rejected


def drift(history: History) -> list[Chart | None]:
    """How far clients go, and whether they go the same way."""
    cosines = history.of_clients("cosine", 1.001)
    by_round: dict[float, list[float]] = {}
    for points in cosines.values():
        for place, value in points:
            by_round.setdefault(place, []).append(value)
    mean = Line("mean of all clients", [(place, fmean(own)) for place, own in sorted(by_round.items())])
    return [
        by_client("Cosine of each update to the others", cosines, history.names, "cosine"),
        line_chart("Mean cosine of updates", [mean], "cosine"),
        by_client("Length of updates", history.of_clients("norm"), history.names, "L2 norm"),
    ]


def aggregation(history: History) -> list[Chart | None]:
    """How far the aggregate is from the ideal one."""
    folded = [
        (place, value)
        for record in history.others
        if record["event"] == "folded"
        and (place := number(record.get("round"))) is not None
        and (value := number(record.get("folding_error"))) is not None
    ]
    error = Line("aggregation error", history.of_rounds("aggregation_error"))
    lost = Line("lost to rounding on the hosts", folded, 1)
    return [line_chart("Error of the aggregate, relative to the ideal one", [error, lost], "relative", zero=True)]


@dataclass(frozen=True)
class LeftOut:
    """Updates that did not count, for one reason."""

    who: str
    code: str
    rounds: str
    reason: str


def left_out(history: History) -> list[LeftOut]:
    """Rejected updates by client and code, rounds done again, notes of hosts, and what counted though unusual."""
    found: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for place, records in history.clients.items():
        for record in records:
            if code := record.get("rejected"):
                key = (str(record["client"]), str(code))
                found.setdefault(key, []).append((place, str(record.get("reason") or "")))
    for record in history.others:
        place = int(number(record.get("round")) or 0)
        match record["event"]:
            case "repeat":
                text = f"{record.get('usable')} usable updates of the {record.get('needed')} that it needs"
                found.setdefault(("the whole round", "repeated"), []).append((place, text))
            case "unusual":
                key = (str(record.get("client")), "unusual, but counted")
                found.setdefault(key, []).append((place, str(record.get("text"))))
            case "left_out" | "not_ready":
                key = (str(record.get("host")), str(record["event"]).replace("_", " "))
                found.setdefault(key, []).append((place, str(record.get("reason"))))
            case "note":
                found.setdefault((str(record.get("host")), "note"), []).append((place, str(record.get("text"))))
    rows = [LeftOut(who, code, _rounds([p for p, _ in own]), own[-1][1]) for (who, code), own in found.items()]
    return rows[:_MOST_LINES]


def _rounds(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, sorted(set(numbers))[:12]))
    return shown if len(set(numbers)) <= 12 else f"{shown} and {len(set(numbers)) - 12} more"
