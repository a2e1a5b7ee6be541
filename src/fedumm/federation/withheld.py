"""What of an error leaves a real site: its kind and a sentence of ours.

The text of an exception may quote anything: the first line of a table, the keys of a file, a folder's name. It stays
in the site's log.
"""

from __future__ import annotations

import builtins
import logging
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING

from fedumm.errors import FedummError, PublicError
from fedumm.federation.messages import HostError, HostReply, Message, Ready, RoundTask, Setup, Survey, Update
from fedumm.libraries import likely_cause

if TYPE_CHECKING:
    from fedumm.features.report import CacheReport

log = logging.getLogger("fedumm.site")
"""The site's log: :mod:`fedumm.federation.flare.site_host` writes it to a file at the site."""
log.addHandler(logging.NullHandler())

WHERE = "Details are in the site's log."

SENTENCES = {
    "memory": "it ran out of memory.",
    "files": "a file or folder of the site can't be read or written.",
    "libraries": "something is missing in the site's installation.",
    "data": "the site's data can't be read or dealt out as the job asks.",
    "model": "the model can't be loaded, or the data prepared for it.",
    "round": "a round can't be carried out.",
    "process": "the process that trains can't be started or asked.",
}
"""By kind, all that a server is told of an error whose text may hold data."""

_STAGES: dict[type, str] = {Survey: "data", Setup: "model", RoundTask: "round"}


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
    if isinstance(answer, HostReply):
        return replace(answer, updates=[_without_text(update) for update in answer.updates])
    if isinstance(answer, Ready):
        return replace(answer, cache=[_without_note(report) for report in answer.cache])
    return answer


def _without_text(update: Update) -> Update:
    """An update's error is the exception's type and text."""
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
        return "files"
    return "libraries" if issubclass(known, ImportError) else ""
