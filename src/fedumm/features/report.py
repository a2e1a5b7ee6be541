"""What the cache did, for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CacheReport:
    """What became of the features.

    Attributes:
        name: what they are.
        kept: memory, disk, or empty.
        bytes: of all features.
        images: distinct ones.
        computed: how many of them were computed now.
        note: why it is not what was hoped for; empty if it is.
        remade: files that did not fit (damaged, of another shape or type, another user's) and were made again.
    """

    name: str = "features"
    kept: str = ""
    bytes: int = 0
    images: int = 0
    computed: int = 0
    note: str = ""
    remade: int = 0

    def describe(self) -> str:
        """One line; empty if nobody asked for a cache."""
        if not self.kept:
            return f"{self.name} are computed again in each step: {self.note}" if self.note else ""
        where = "on disk, mapped" if self.kept == "disk" else "in memory"
        again = f", {self.remade:,} file(s) that did not fit made again" if self.remade else ""
        note = f"{again} ({self.note})" if self.note else again
        return (
            f"{self.name} of {self.images:,} images: {self.bytes / 1e6:.1f} MB {where}, "
            f"{self.computed:,} computed now{note}"
        )
