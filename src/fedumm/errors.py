"""The one exception that a user is meant to see."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FedummError(Exception):
    """Bad input or a missing resource. The message says what was wrong and what to do.

    The command line prints it without a traceback and exits with status 2.
    """


class PublicError(FedummError):
    """One whose text a real site may tell the server: it quotes the message that is refused, and nothing of the site's.

    Of any other error no more leaves a site than what kind it is (:mod:`fedumm.federation.client.redaction`).
    """


class DivergedError(FedummError):
    """A training whose loss is no longer a number: of several learning rates, this one is too high."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the nearest of ``known``, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
