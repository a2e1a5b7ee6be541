"""A run in which each client trained alone, for the page: means over clients in place of versions of one adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from fedumm.formatting import percent
from fedumm.report.console import duration
from fedumm.report.page.clients import MOST_ROWS, Spreads, by_name, filled, spreads
from fedumm.report.page.history import History, mapping, number
from fedumm.report.page.scores import Part, Tile, entry, trained
from fedumm.run_events import Record
from fedumm.tasks import TASKS

_PLACES = {"heldout_clients": "held-out scores of clients", "test_clients": "common test scores of clients"}
_MOST_BARS = 20
_LARGEST = 1e9
"""No score or loss is larger: the records may be somebody else's."""


def with_means(history: History) -> History:
    """With scores as other runs have them, where clients trained alone; other runs as they are.

    Every client counts once, as in the tables of a study.
    """
    if history.run.kind != "local":
        return history
    records = list(history.alone.values())
    summary = next((r for r in history.others if r["event"] == "summary"), {})
    untrained = {
        "test_tasks": mapping(summary.get("untrained")).get("test_tasks"),
        "heldout_tasks": _means(records, "heldout_before"),
        "heldout_clients": _by_client(history, "heldout_before"),
    }
    alone = {
        "test_tasks": _means(records, "test"),
        "heldout_tasks": _means(records, "heldout"),
        "heldout_clients": _by_client(history, "heldout"),
        "test_clients": _by_client(history, "test"),
    }
    return replace(history, run=replace(history.run, scores={"untrained": untrained, "best": alone, "last": alone}))


def _by_client(history: History, key: str) -> dict[str, float]:
    found = {name: number(history.alone.get(name, {}).get(key)) for name in history.names}
    return {name: value for name, value in found.items() if value is not None and abs(value) <= _LARGEST}


def _means(records: Sequence[Record], place: str) -> dict[str, Any]:
    """By task, the means over those clients that have scores of it."""
    found: dict[str, Any] = {}
    for task in TASKS:
        own = [scores for record in records if (scores := entry(record, place, task)) and _fit(scores)]
        losses = [scores["loss"] for scores in own if scores["loss"] is not None]
        if own:
            found[task] = {
                "score": fmean(scores["score"] for scores in own),
                **({"loss": fmean(losses)} if losses else {}),
                "parts": _by_key(scores["parts"] for scores in own),
                "others": _by_key(scores["others"] for scores in own),
            }
    return found


def _fit(scores: Mapping[str, Any]) -> bool:
    values = [scores["score"], scores["loss"] or 0.0, *scores["parts"].values(), *scores["others"].values()]
    return all(abs(value) <= _LARGEST for value in values)


def _by_key(several: Iterable[Mapping[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for own in several:
        for name, value in own.items():
            values.setdefault(name, []).append(value)
    return {name: fmean(own) for name, own in values.items()}


def tiles(history: History) -> list[Tile]:
    """The client with the lowest score on the common test set."""
    scores = by_name(history, "best", "test_clients")
    if not scores:
        return []
    worst = min(scores, key=lambda name: scores[name])
    return [Tile("Worst client, common test set", percent(scores[worst]), note=worst)]


def parts(history: History) -> list[tuple[str, list[Part]]]:
    """Each client on its held-out data, before and after; of many, those that end lowest."""
    if not history.alone:
        return []
    before, after = (by_name(history, version) for version in ("untrained", "best"))
    names = list(after) if len(after) <= _MOST_BARS else sorted(after, key=lambda name: after[name])[:_MOST_BARS]
    rows = [Part(name, before[name], after[name]) for name in names if name in before]
    if len(rows) < 2 or not all(0 <= value <= 1 for row in rows for value in (row.before, row.after)):
        return []
    few = f", the {_MOST_BARS} lowest" if len(after) > _MOST_BARS else ""
    return [(f"score of each on its held-out data{few}", rows)]


def fairness(history: History) -> Spreads:
    """How scores are spread over clients, on the data of each and on those of all."""
    return [(shown, own) for key, shown in _PLACES.items() if (own := spreads(history, key))]


def clients_table(history: History) -> tuple[list[str], list[list[str]], int]:
    """Headings, rows and how many clients are in no row; those with the lowest scores come first."""
    test = by_name(history, "best", "test_clients")
    sizes = mapping(history.setup.get("clients"))
    headings = ["client", "training rows", "held-out rows", "held-out, untrained", f"held-out, {trained(history)}",
                "common test", "steps", "training loss", "time"]  # fmt: skip
    order = sorted(history.names, key=lambda name: (test.get(name, 2.0), history.names.index(name)))
    rows = []
    for name in order[:MOST_ROWS]:
        own, record = mapping(sizes.get(name)), history.alone.get(name, {})
        rows.append(
            [
                name,
                *(f"{int(number(own.get(key)) or 0):,}" for key in ("train", "heldout")),
                *(percent(number(record.get(key))) for key in ("heldout_before", "heldout", "test")),
                _shown(record.get("steps"), "{:,.0f}".format),
                _shown(record.get("train_loss"), "{:.4f}".format),
                _shown(record.get("seconds"), duration),
            ]
        )
    return *filled(headings, rows), len(order) - len(rows)


def _shown(value: object, form: Callable[[float], str]) -> str:
    found = number(value)
    return "-" if found is None else form(found)
