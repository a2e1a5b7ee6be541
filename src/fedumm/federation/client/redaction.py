"""Of an error, only its kind and a fixed sentence leave a real site.

The text of an exception may quote anything: the first line of a table, the keys of a file, a folder's name. It stays
in the site's log.
"""

from __future__ import annotations

import builtins
import errno
import logging
import math
import os
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING

from fedumm.errors import FedummError, PublicError
from fedumm.federation.protocol.messages import (
    ClientUpdate,
    DataStatsRequest,
    HostError,
    InitReply,
    InitRequest,
    Message,
    RoundReply,
    RoundTask,
)
from fedumm.libraries import likely_cause
from fedumm.metrics.evaluation import Evaluation, Scores
from fedumm.metrics.geneval import CATEGORIES

if TYPE_CHECKING:
    from fedumm.features.report import CacheReport

log = logging.getLogger("fedumm.site")
"""The site's log: :mod:`fedumm.federation.runners.flare.site_host` writes it to a file at the site."""
log.addHandler(logging.NullHandler())

WHERE = "Details are in the site's log."

SENTENCES = {
    "memory": "it ran out of memory.",
    "disk": "its disk is full.",
    "files": "a file or folder of the site can't be read or written.",
    "libraries": "something is missing in the site's installation.",
    "data": "the site's data can't be read or dealt out as the job asks.",
    "model": "the model can't be loaded, or the data prepared for it.",
    "round": "a round can't be carried out.",
    "process": "the process that trains can't be started or asked.",
}
"""By kind, all that a server is told of an error whose text may hold data."""

_FULL = (errno.ENOSPC, errno.EDQUOT)

OTHER = "other"
KNOWN_PARTS = frozenset({"yes/no", "number", OTHER, "caption", *CATEGORIES})
"""VQA's kinds of answers and GenEval's of prompts: names in scores that tell nothing of a site's data."""

_STAGES: dict[type, str] = {DataStatsRequest: "data", InitRequest: "model", RoundTask: "round"}


def withheld(error: Exception, message: Message) -> HostError:
    """What the server is told of ``error``, which came up over ``message``; the whole of it goes into the log."""
    log.error("while answering %s: %s", type(message).__name__, error, exc_info=error)
    if cause := likely_cause():
        log.error("%s", cause.strip())
    return HostError(told(error, _STAGES.get(type(message), "round")))


def whole(error: Exception, message: Message | None = None) -> HostError:
    """All of ``error``, for the one user of a simulation, who has the data."""
    if isinstance(error, FedummError):
        return HostError(str(error))
    text = f"{type(error).__name__}: {error}"
    return HostError(text, "".join(traceback.format_exception(error)) + likely_cause())


def told(error: Exception, stage: str) -> str:
    """What the server is told of ``error``; ``stage`` is its kind, if it is of no other of :data:`SENTENCES`."""
    return str(error) if isinstance(error, PublicError) else _sentence(type(error).__name__, str(error), stage)


def without_data(answer: Message) -> Message:
    """``answer`` with the errors of single clients reduced in the same way, and without the site's paths."""
    if isinstance(answer, RoundReply):
        updates = [_without_text(update) for update in answer.updates]
        return replace(answer, updates=updates, test=_without_values(answer.test))
    if isinstance(answer, InitReply):
        config = {name: value for name, value in answer.adapter_config.items() if not _is_place(value)}
        return replace(answer, adapter_config=config, cache=[_without_note(report) for report in answer.cache])
    return answer


def _is_place(value: object) -> bool:
    """The server names the base model itself; where a site has it is the site's business."""
    return isinstance(value, str) and os.path.isabs(value)


def _without_values(scores: Scores) -> Scores:
    """``scores`` by kinds of answer that everybody knows: what else a column of the data holds is ``other``."""
    return {task: replace(own, parts=_known_parts(own)) for task, own in scores.items()}


def _known_parts(own: Evaluation) -> dict[str, tuple[float, int]]:
    parts = {name: part for name, part in own.parts.items() if name in KNOWN_PARTS}
    rest = [part for name, part in own.parts.items() if name not in KNOWN_PARTS or name == OTHER]
    if rest:
        count = sum(count for _, count in rest)
        parts[OTHER] = (math.fsum(score * count for score, count in rest) / count, count)
    return parts


def _without_text(update: ClientUpdate) -> ClientUpdate:
    """An update's error is the exception's type and text."""
    update = replace(update, before=_without_values(update.before), after=_without_values(update.after))
    if not update.error:
        return update
    kind, _, text = update.error.partition(": ")
    log.error("%s, round %d: %s", update.client, update.round, update.error)
    return replace(update, error=text if kind == PublicError.__name__ else _sentence(kind, text, "round"))


def _without_note(report: CacheReport) -> CacheReport:
    if not report.note:
        return report
    log.warning("%s: %s", report.name, report.note)
    return replace(report, note="why is in the site's log")


def _sentence(kind: str, text: str, stage: str) -> str:
    code = _code(kind, text) or stage
    return f"{code}: {SENTENCES[code]} {WHERE}"


def _code(kind: str, text: str) -> str:
    known = getattr(builtins, kind, None)
    known = known if isinstance(known, type) else FedummError
    if issubclass(known, MemoryError) or kind == "OutOfMemoryError" or "out of memory" in text.lower():
        return "memory"
    if issubclass(known, OSError):
        return "disk" if any(text.startswith(f"[Errno {number}]") for number in _FULL) else "files"
    return "libraries" if issubclass(known, ImportError) else ""
