"""Lines of ``metrics.jsonl`` (docs/architecture.md names their keys)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedumm.features.report import CacheReport
from fedumm.federation.protocol.messages import ClientUpdate, RoundReply, RoundTask
from fedumm.federation.server.validation import Accepted
from fedumm.metrics.evaluation import Scores, combine, mean_score, summary
from fedumm.texts import one_line


def round_record(
    task: RoundTask, good: Sequence[ClientUpdate], host_seconds: Sequence[float], tasks: Mapping[str, Mapping[str, int]]
) -> dict[str, Any]:
    """What the updates that counted say together.

    Args:
        host_seconds: what the round took each host.
        tasks: training rows of each client by task.
    """
    total = sum(u.num_samples for u in good)
    return {
        "event": "round",
        "round": task.round,
        "clients": len(good),
        "train_loss": sum(u.train_loss * u.num_samples for u in good) / total if total else math.nan,
        "train_losses": _train_losses(good, tasks),
        **summary("heldout_before", combine([u.before for u in good])),
        **summary("heldout_after", combine([u.after for u in good])),
        "bytes_down": task.size * len(host_seconds),
        "bytes_up": sum(u.size for u in good),
        "seconds_host": round(max(host_seconds, default=0.0), 3),
    }


def scores_record(scores: Mapping[str, Scores], missing: Sequence[str], test: Scores) -> dict[str, Any]:
    """What a version of the global adapter reached.

    Args:
        scores: by client, on its held-out rows.
        missing: who should have scored it, too.
        test: on the common test set.
    """
    return {
        **summary("heldout", combine(list(scores.values()))),
        "heldout_clients": {client: mean_score(own) for client, own in scores.items()},
        "heldout_missing": list(missing),
        **summary("test", test),
    }


def _train_losses(good: Sequence[ClientUpdate], tasks: Mapping[str, Mapping[str, int]]) -> dict[str, float]:
    """By task, weighted by how many training samples of the task a client has."""
    result = {}
    for task in sorted({task for update in good for task in update.train_losses}):
        own = [(u.train_losses[task], tasks[u.client][task]) for u in good if task in u.train_losses]
        result[task] = sum(loss * count for loss, count in own) / sum(count for _, count in own)
    return result


def folded_record(task: RoundTask, replies: Iterable[RoundReply]) -> dict[str, Any] | None:
    """What hosts lost of the change of the round before, the worst of them; None if none took one in."""
    told = [reply.folding_error for reply in replies if reply.folding_error is not None]
    # NaN fails the comparison as well.
    good = [error for error in told if 0 <= error < math.inf]
    return {"event": "folded", "round": task.round - 1, "folding_error": max(good)} if good else None


def features(reports: Sequence[CacheReport], one_machine: bool) -> CacheReport:
    """What the hosts keep of images: on the disk of one machine all the same, otherwise each its own."""
    name, kept = reports[0].name, reports[0].kept
    total = max if one_machine and kept == "disk" else sum
    return CacheReport(
        name,
        kept,
        total(report.bytes for report in reports),
        total(report.images for report in reports),
        sum(report.computed for report in reports),
        next((report.note for report in reports if report.note), ""),
        sum(report.remade for report in reports),
    )


def client_record(
    task: RoundTask, client: str, update: ClientUpdate | None, problem: str | None, accepted: Accepted | None
) -> dict[str, Any]:
    """One client's part, counted or left out because of ``problem``; without an answer there is no more to tell."""
    record: dict[str, Any] = {
        "event": "client",
        "round": task.round,
        "client": client,
        "left_out": None if problem is None else one_line(problem),
    }
    if update is None:
        return record
    return record | {
        "num_samples": update.num_samples,
        "steps": update.steps,
        "train_loss": update.train_loss,
        "train_losses": update.train_losses,
        "untrained": len(update.untrained),
        "norm": accepted.norm if accepted else None,
        **summary("heldout", update.before),
        **summary("heldout_after", update.after),
        "bytes_down": task.size,
        "bytes_up": update.size,
        "seconds_train": round(update.seconds_train, 3),
        "seconds_eval": round(update.seconds_eval, 3),
    }
