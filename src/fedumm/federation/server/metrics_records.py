"""Lines of ``metrics.jsonl`` (docs/architecture.md names their keys)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from fedumm.features.report import CacheReport
from fedumm.federation.assignment import natural
from fedumm.federation.protocol.messages import ClientUpdate, InitReply, RoundReply, RoundTask
from fedumm.federation.server.participants import Participants
from fedumm.federation.server.rejection import Rejection
from fedumm.metrics.evaluation import Scores, combine, mean_score, summary
from fedumm.run_events import Record
from fedumm.texts import one_line


def setup_record(
    participants: Participants,
    replies: Mapping[str, InitReply],
    panel: Sequence[str] | None,
    noise: Mapping[str, float] | None,
    one_machine: bool,
) -> Record:
    """Who takes part, and with what; the run's clock adds ``seconds``.

    Args:
        panel: the clients whose scores choose the best version.
        noise: of differential privacy; see :meth:`fedumm.privacy.plan.DPPlan.noise_on_mean`.
        one_machine: all hosts are on this one.
    """
    first = replies[min(replies, key=natural)]
    caches = zip(*(reply.cache for reply in replies.values()), strict=False)
    return {
        "event": "setup",
        "hosts": {
            host: {"clients": participants.assignments[host], "device": r.device, "versions": r.versions}
            for host, r in replies.items()
        },
        "clients": {
            name: {key: own[key] for key in ("train", "heldout", "tasks")} for name, own in participants.clients.items()
        },
        "panel": panel,
        "test_samples": sum(r.test_samples for r in replies.values()),
        "trainable": first.trainable,
        "total": first.total,
        "adapter_bytes": len(first.adapter),
        "noise": noise,
        # The same on all hosts, if they are of one kind.
        "findings": list(dict.fromkeys(one_line(text) for r in replies.values() for text in r.findings)),
        "features": [asdict(join_caches(own, one_machine and participants.method != "own")) for own in caches],
    }


def round_record(
    task: RoundTask,
    good: Sequence[ClientUpdate],
    host_seconds: Sequence[float],
    tasks: Mapping[str, Mapping[str, int]],
    extra_bytes: int,
) -> Record:
    """What the accepted updates say together.

    Args:
        host_seconds: what the round took each host.
        tasks: training rows of each client by task.
        extra_bytes: what hosts were sent that had to catch up.
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
        "bytes_down": task.size * len(host_seconds) + extra_bytes,
        "bytes_up": sum(u.size for u in good),
        "seconds_host": round(max(host_seconds, default=0.0), 3),
    }


def scores_record(scores: Mapping[str, Scores], missing: Sequence[str], test: Scores) -> Record:
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


def folded_record(task: RoundTask, replies: Iterable[RoundReply]) -> Record | None:
    """What hosts lost of the change of the round before, the worst of them; None if none took one in."""
    told = [reply.folding_error for reply in replies if reply.folding_error is not None]
    # NaN fails the comparison as well.
    good = [error for error in told if 0 <= error < math.inf]
    return {"event": "folded", "round": task.round - 1, "folding_error": max(good)} if good else None


def join_caches(reports: Sequence[CacheReport], one_machine: bool) -> CacheReport:
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
    task: RoundTask,
    client: str,
    update: ClientUpdate | None,
    rejection: Rejection | None,
    norm: float | None = None,
    cosine: float | None = None,
) -> Record:
    """One client's part, accepted or rejected; without an answer there is no more to tell.

    Args:
        norm: of the update; None if it was rejected before that was known.
        cosine: between the update and the others' (:func:`fedumm.federation.server.outliers.directions`); None where
            that is not known, or not to be.
    """
    record: Record = {
        "event": "client",
        "round": task.round,
        "client": client,
        "rejected": rejection.code if rejection else None,
        "reason": one_line(rejection.reason) if rejection else None,
    }
    if update is None:
        return record
    return record | {
        "num_samples": update.num_samples,
        "steps": update.steps,
        "train_loss": update.train_loss,
        "train_losses": update.train_losses,
        "untrained": len(update.untrained),
        "norm": norm,
        "cosine": cosine,
        **summary("heldout", update.before),
        **summary("heldout_after", update.after),
        "bytes_down": task.size,
        "bytes_up": update.size,
        "seconds_train": round(update.seconds_train, 3),
        "seconds_eval": round(update.seconds_eval, 3),
    }


def note_record(task: RoundTask, host: str, text: str) -> Record:
    """What the user should know of a host."""
    return {"event": "note", "round": task.round, "host": host, "text": text}
