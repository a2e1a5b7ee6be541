"""Who a site is towards other sites, whatever the server between them says."""

from __future__ import annotations

from typing import Protocol


class Identity(Protocol):
    """A site's own: it signs, and knows good signatures of the others.

    Attributes:
        run: the run that this site takes part in, by the name it has at all sites.
    """

    run: str

    def sign(self, content: bytes) -> list[bytes]:
        """This site's certificate, and its signature of ``content``."""

    def problem(self, name: str, content: bytes, signature: list[bytes]) -> str:
        """Why ``signature`` is not the one of the site ``name`` below ``content``; empty if it is."""
