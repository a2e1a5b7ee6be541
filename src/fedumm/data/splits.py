"""Splits named with a part, as ``datasets`` writes them: ``validation[:50%]``, ``train[100:200]``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedumm.errors import FedummError

EVAL_SPLITS = ("validation", "val", "test")


@dataclass(frozen=True)
class SplitPart:
    """A split's name, and which part of it is meant (``spec`` is empty for all of it)."""

    name: str
    spec: str = ""

    @classmethod
    def parse(cls, text: str) -> SplitPart:
        """From ``validation`` or ``validation[:50%]``."""
        name, bracket, _ = text.partition("[")
        return cls(name, text if bracket else "")

    def rows_to_read(self, limit: int) -> int:
        """How many of the split's first rows are needed for ``limit`` rows of the part; -1: all."""
        return limit if not self.spec or self.spec.startswith(f"{self.name}[:") else -1

    def of(self, rows: Any, limit: int) -> Any:
        """The part of ``rows``, which are the whole split, or what :meth:`rows_to_read` said."""
        if not self.spec or self.rows_to_read(limit) != -1:
            return rows
        from datasets import ReadInstruction

        try:
            (found,) = ReadInstruction.from_spec(self.spec).to_absolute({self.name: len(rows)})
        except (ValueError, AssertionError) as error:
            raise FedummError(f"The split {self.spec!r} can't be read: {error}") from error
        return rows.select(range(found.from_, found.to))


def pick_split(there: Sequence[str], wanted: Sequence[str], name: str) -> str:
    """The first of ``wanted`` that is ``there``.

    Raises:
        FedummError: none is.
    """
    for split in wanted:
        if split in there:
            return split
    options = " or ".join(dict.fromkeys(wanted))
    raise FedummError(f"--dataset {name} has no split {options}. It has: {', '.join(there) or 'none'}.")
