"""Which numbers of a record are tracked, and what they are called."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from fedumm.texts import tag

_ROUND = (
    "train_loss",
    "heldout",
    "heldout_before",
    "heldout_after",
    "test",
    "bytes_down",
    "bytes_up",
    "seconds",
    "aggregation_error",
    "epsilon",
)
_CLIENT = ("train_loss", "heldout", "heldout_after", "num_samples")
_EPOCH = ("train_loss", "heldout", "test", "seconds")
_SCORES = ("heldout", "heldout_before", "heldout_after", "test")
_OF_RECORDS = {"round": ("round", _ROUND), "final": ("round", ("heldout", "test")), "epoch": ("epoch", _EPOCH)}


def place_of(record: Mapping[str, Any]) -> int | None:
    """The round or epoch that a record's numbers belong to; None for records that are not tracked.

    The last scores of a run belong to the round after its last one: see :func:`numbers_of`.
    """
    kind = record["event"]
    if kind in ("round", "client", "folded"):
        return int(record["round"])
    if kind == "final":
        return int(record["round"]) + 1
    return int(record["epoch"]) if kind == "epoch" else None


def numbers_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Finite numbers by name: ``round/...`` for the run, ``client/<name>/...`` for each client.

    Of a run with several tasks also ``train_loss/<task>``, ``heldout/<task>`` and so on, and of image
    tokens ``heldout/t2i_loss``; of texts ``heldout/i2t_cider`` and the others.

    Of a central run ``epoch/...`` by epoch, the untrained adapter's at 0.

    ``heldout`` and ``test`` of round r score the adapter that round r started from: on as many clients' held-out data
    as ``heldout_clients`` says. ``heldout_before`` and ``heldout_after`` are the scores of those who trained.
    """
    found = {name: value for name, value in _all(record) if isinstance(value, int | float)}
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def _all(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    kind = record["event"]
    if kind == "folded":
        yield "round/folding_error", record["folding_error"]
        return
    names: tuple[str, ...]
    if kind == "client":
        prefix, names = f"client/{tag(record['client'])}", _CLIENT
    elif kind in _OF_RECORDS:
        prefix, names = _OF_RECORDS[kind]
    else:
        return
    for name in names:
        yield f"{prefix}/{name}", record.get(name)
    yield from _of_tasks(prefix, record)
    if scorers := record.get("heldout_clients"):
        yield "round/heldout_clients", len(scorers)


def _of_tasks(prefix: str, record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in _SCORES:
        tasks = record.get(f"{name}_tasks") or {}
        for task, entry in tasks.items():
            if len(tasks) > 1 or "loss" in entry:
                yield f"{prefix}/{name}/{tag(task)}", entry["score"]
                yield f"{prefix}/{name}/{tag(task)}_loss", entry.get("loss")
            for other, value in entry.get("others", {}).items():
                yield f"{prefix}/{name}/{tag(task)}_{tag(other)}", value
    losses = record.get("train_losses") or {}
    for task, loss in losses.items() if len(losses) > 1 else ():
        yield f"{prefix}/train_loss/{tag(task)}", loss
