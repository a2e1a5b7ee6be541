"""Names of hosts and clients that come from elsewhere. Files are named after clients."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fedumm.errors import PublicError

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def check_name(name: object) -> str:
    """``name``, if it can be one: 1 to 64 of the characters ``A-Z a-z 0-9 . _ -``, and not dots alone.

    Raises:
        PublicError: it can't.
    """
    if not (isinstance(name, str) and _NAME.fullmatch(name) and name.strip(".")):
        raise PublicError(f"no name of a site (1 to 64 of A-Z a-z 0-9 . _ -): {ascii(name)[:80]}")
    return name


def check_names(names: Iterable[object]) -> list[str]:
    """Names of which none is there twice.

    Raises:
        PublicError: one is, or is no name.
    """
    checked = [check_name(name) for name in names]
    if len(set(checked)) < len(checked):
        raise PublicError("a client is named twice")
    return checked
