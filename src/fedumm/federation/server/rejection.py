"""Why an update, or a score, is not used: a stable code for programs, and a reason in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from fedumm.errors import DivergedError, FedummError

RejectionCode = Literal[
    "missing", "failed", "stale", "claims", "loss", "score", "payload", "tensors", "non_finite", "huge", "control",
    "duplicate", "norm", "product", "direction", "masked",
]  # fmt: skip

CODES: dict[RejectionCode, str] = {
    "missing": "no answer came",
    "failed": "the client or its host reported an error, or sent something that is no update",
    "stale": "the update is of another round",
    "claims": "its numbers of samples or steps, or its tasks, are not those that the server knows",
    "loss": "a training loss is NaN, infinite or out of range",
    "score": "a score is out of range, of another task, or not of all held-out rows",
    "payload": "the bytes are no adapter of the run's names, shapes and dtypes, packed as agreed",
    "tensors": "tensors are missing, or some that were not to be trained are there",
    "non_finite": "a tensor holds NaN or infinite values",
    "huge": "a tensor holds values beyond 2^20 in magnitude",
    "control": "SCAFFOLD's control variates are missing, not asked for, or of other tensors",
    "duplicate": "the tensors are those of the client's last accepted update, byte for byte",
    "norm": "the update, or the change of its control variates, is too long",
    "product": "the products B A move too far",
    "direction": "the factors A are turned about",
    "masked": "the masks could not be taken off the round's sum (--secure_aggregation)",
}
"""What each code means. They are compared within a round last: ``norm``, ``product`` and ``direction``."""

OF_DIVERGED: frozenset[RejectionCode] = frozenset({"loss", "non_finite", "huge"})
"""What a training with too high a learning rate comes to."""


@dataclass(frozen=True)
class Rejection:
    """Why something of a client is not used.

    Attributes:
        code: one of :data:`CODES`.
        reason: a sentence for people; it may quote what the client sent.
    """

    code: RejectionCode
    reason: str


class RejectedError(Exception):
    """An update cannot be used; the text is the reason."""

    def __init__(self, code: RejectionCode, reason: str) -> None:
        super().__init__(reason)
        self.rejection = Rejection(code, reason)


def too_few(number: int, found: int, needed: int, rejected: Iterable[Rejection]) -> FedummError:
    """What ends a run in whose round ``number`` only ``found`` updates could be used: a :class:`DivergedError` if none
    was finite."""
    codes = {rejection.code for rejection in rejected}
    diverged = not found and codes and codes <= OF_DIVERGED
    return (DivergedError if diverged else FedummError)(
        f"Round {number}: {found} usable update(s), and --min_clients {needed}. The reasons are in metrics.jsonl. "
        "The last good state is kept: fix the cause and resume."
    )
