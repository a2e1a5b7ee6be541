"""What both sides are made of: a server and a host of other protocols do not go on, other libraries are told of."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from fedumm import __version__
from fedumm.errors import PublicError
from fedumm.libraries import installed_versions
from fedumm.texts import one_line

PROTOCOL = 3
"""Goes up when a message changes so that the other side would not understand it, or would understand something else."""

_OF_BITS = ("fedumm", "torch", "transformers", "peft")
"""Whose other version may give other bits."""

_FLARE = "nvflare"


@functools.cache
def _own() -> tuple[tuple[str, str], ...]:
    return (("protocol", str(PROTOCOL)), ("fedumm", __version__), *installed_versions().items())


def own_versions() -> dict[str, str]:
    """Number of the protocol, versions of fedumm and of the libraries here."""
    return dict(_own())


def check_protocol(versions: Any) -> None:
    """A host goes on with a server of its own protocol only.

    Args:
        versions: :func:`own_versions` of the server, or whatever else came in its place.

    Raises:
        PublicError: it speaks another, or does not say.
    """
    theirs = versions if isinstance(versions, Mapping) else {}
    if theirs.get("protocol") == str(PROTOCOL):
        return
    spoken = f"protocol {one_line(theirs['protocol'], 20)}" if "protocol" in theirs else "no numbered protocol"
    raise PublicError(
        f"The server speaks {spoken} (fedumm {one_line(theirs.get('fedumm', 'unknown'), 40)}), this host protocol "
        f"{PROTOCOL} (fedumm {__version__}): install the same fedumm on both."
    )


def version_notes(hosts: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """By host that has other versions than this server: which, in a line.

    Args:
        hosts: what each said of itself.
    """
    own, notes = own_versions(), {}
    for host, theirs in hosts.items():
        others = [
            f"{name} {theirs.get(name) or '(unknown)'} (here {own[name]})"
            for name in (*_OF_BITS, _FLARE)
            if _counts(name, theirs.get(name, "")) != _counts(name, own[name])
        ]
        if others:
            notes[host] = f"has other versions than the server: {', '.join(others)}. Bits may differ, results hardly"
    return notes


def _counts(name: str, version: str) -> str:
    """What of a version matters: of fedumm and FLARE the first two numbers, of the others all but the build's name."""
    public = version.partition("+")[0]
    return ".".join(public.split(".")[:2]) if name in ("fedumm", _FLARE) else public
