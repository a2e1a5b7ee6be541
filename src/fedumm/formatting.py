"""Numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from decimal import ROUND_CEILING, Context
from typing import Any

from fedumm.tasks import TASKS, in_order, selects

CATEGORIES = {
    "single_object": "one object",
    "two_object": "two objects",
    "counting": "counting",
    "colors": "colours",
    "position": "position",
    "color_attr": "colour attribution",
}
"""GenEval's, for people."""


_UP = Context(prec=3, rounding=ROUND_CEILING)


def epsilon_text(value: float) -> str:
    """Three digits, rounded up: a bound that is shown must hold."""
    return f"{_UP.create_decimal(value).normalize():f}" if math.isfinite(value) else str(value)


def percent(value: float | None) -> str:
    """``0.5`` as ``50.00 %``; a dash for None."""
    return "-" if value is None else f"{100 * value:.2f} %"


def score_text(entry: Mapping[str, Any] | None) -> str:
    """One task's entry of a record: ``71.20 %``, or ``3.214 nats`` where there is a loss; a dash for None."""
    if entry is None:
        return "-"
    loss = entry.get("loss")
    return percent(entry["score"]) if loss is None else f"{loss:.3f} nats"


def scores_text(record: Mapping[str, Any], name: str) -> str:
    """All tasks of ``name`` (``heldout``, ``test``, ...) but the images drawn, one after the other."""
    tasks: Mapping[str, Any] = record.get(f"{name}_tasks") or {}
    return "  ".join(score_text(tasks[task]) for task in in_order(tasks) if selects(task)) or "-"


def others_text(record: Mapping[str, Any], name: str) -> str:
    """What stands beside the scores of ``name``: ``ROUGE-L 31.20 %  CIDEr 0.812``; empty if nothing does."""
    tasks: Mapping[str, Any] = record.get(f"{name}_tasks") or {}
    return "  ".join(
        f"{other.label} {percent(own[other.name]) if other.highest == 1 else format(own[other.name], '.3f')}"
        for task in in_order(tasks)
        if task in TASKS and (own := tasks[task].get("others"))
        for other in TASKS[task].others
        if own.get(other.name) is not None
    )


def scorers_text(counts: Collection[int], roster: int) -> str:
    """On whose held-out data scores were made, by the numbers of clients of each: ``27 of 30 clients``, or
    ``2 to 3 of 3 clients``; of everybody always ``all clients``."""
    fewest, most = min(counts), max(counts)
    if fewest == roster:
        return "all clients"
    return f"{fewest} of {roster} clients" if fewest == most else f"{fewest} to {most} of {roster} clients"


def cut_text(client: str, steps: int, planned: int) -> str:
    """A client that ``--round_minutes`` stopped."""
    return f"{client} ran out of its --round_minutes after {steps:,} of {planned:,} steps"


def masked_text(needed: int, clients: int) -> str:
    """What ``--secure_aggregation`` means to a run with so many clients a round."""
    return (
        f"The server gets the sum of a round's updates, and none by itself (--secure_aggregation); {needed} of "
        f"{clients} clients must be there from the keys to the end of the round."
    )


def bounded_text(minutes: float, weights: str) -> str:
    """What ``--round_minutes`` means to a run whose clients weigh as ``weights`` says."""
    twice = ", and count more by --client_weights steps" if weights == "steps" else ""
    return (
        f"A client trains for {minutes:g} min a round at most (--round_minutes). Where some are stopped by it, those "
        f"that do more steps move the adapter further{twice}; and such a run, stopped and resumed or not, can't be "
        "repeated bit for bit."
    )
