"""Which rounds a host has helped to sum, and with whom: on disk, so that it holds when the run goes on after a stop."""

from __future__ import annotations

import json
from pathlib import Path

from fedumm.errors import PublicError
from fedumm.files import write_atomically


class SummedRounds:
    """Two sums of one round, of which one has a client more, tell of that client.

    Args:
        path: of the record; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, number: int, summed: list[str]) -> None:
        """Put the sum of a round on record, before it is had.

        Raises:
            PublicError: the round was summed with others, or the record is damaged.
        """
        try:
            known = json.loads(self._path.read_text(encoding="utf-8")) if self._path.exists() else {}
            before = known.get(str(number), summed)
        except (ValueError, AttributeError) as error:
            raise PublicError("this host's record of the rounds that were summed is damaged") from error
        if before != summed:
            raise PublicError(
                f"round {number} was summed with {', '.join(before)} before: a second sum with others would tell of one"
            )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, json.dumps({**known, str(number): summed}))
