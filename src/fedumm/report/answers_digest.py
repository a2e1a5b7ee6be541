"""Which known answers a run began with: a run keeps their digest, never their texts."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fedumm.backends.answers import read_answers
from fedumm.errors import FedummError

DIGEST = "answers.sha256"


def keep_answers_digest(folder: Path, answers: str) -> None:
    """Write that of the file ``answers`` into the run folder; for a run without one, remove that of a run before.

    Raises:
        FedummError: it holds no answers.
    """
    (folder / DIGEST).unlink(missing_ok=True)
    if answers:
        (folder / DIGEST).write_text(f"{_digest(answers)}\n", encoding="utf-8")


def check_answers_digest(folder: Path, answers: str) -> None:
    """Raise :class:`FedummError` unless the file ``answers`` holds those that the run in ``folder`` began with."""
    if not answers:
        return
    try:
        kept = (folder / DIGEST).read_text(encoding="utf-8")[:100].strip()
    except (OSError, ValueError):
        kept = ""
    if _digest(answers) != kept:
        raise FedummError(
            f"--answers {answers} does not hold the answers that the run in {folder} began with. Restore them, or "
            "start a run with another --name."
        )


def _digest(answers: str) -> str:
    return hashlib.sha256("\n".join(read_answers(answers)).encode()).hexdigest()
