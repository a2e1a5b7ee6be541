"""A record on disk of the rounds that a host has answered: noise added twice to the same data reveals them."""

from __future__ import annotations

import json
from pathlib import Path

from fedumm.errors import PublicError
from fedumm.files import write_durably


class AnsweredRounds:
    """The last round that was answered, in a file that outlives the process.

    The first round on record must be round 1: a record that begins later was lost in between.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self) -> None:
        """Make the record, unless it is there."""
        if not self._path.exists():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._write(0)

    def add(self, round_number: int) -> None:
        """Put a round on record, before it is answered.

        Raises:
            PublicError: it was answered before, or nobody can tell whether it was.
        """
        last = self._read()
        if round_number <= last:
            raise PublicError(f"round {round_number} is not the next: its noise would be spent twice")
        if last == 0 and round_number != 1:
            raise PublicError(self._lost("it begins with no round"))
        self._write(round_number)

    def _read(self) -> int:
        try:
            last = json.loads(self._path.read_text(encoding="utf-8"))["answered"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise PublicError(self._lost(type(error).__name__)) from error
        if type(last) is not int or last < 0:
            raise PublicError(self._lost("no number of a round"))
        return last

    def _lost(self, why: str) -> str:
        return (
            f"the record of answered rounds is lost ({why}). With --dp local a round must not be answered twice, so "
            "none is any more: start another run."
        )

    def _write(self, last: int) -> None:
        write_durably(self._path, json.dumps({"answered": last}).encode() + b"\n")
