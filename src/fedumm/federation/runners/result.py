"""What a finished run gives back to the program that started it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedumm.errors import FedummError
from fedumm.report.run_folder import Record, read_records


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        folder: the run folder; ``adapter/best`` and ``adapter/last`` in it hold the adapters.
        rounds: the records of the rounds from ``metrics.jsonl``, in order (``docs/architecture.md`` names their keys).
        best_round: the round after which the adapter scored best; 0 is the untrained adapter.
    """

    folder: Path
    rounds: Sequence[Record]
    best_round: int

    @classmethod
    def read(cls, folder: Path) -> RunResult:
        """The result of the run in ``folder``.

        Raises:
            FedummError: the run is not finished, or its ``metrics.jsonl`` is damaged.
            OSError: there is no run in ``folder``.
        """
        records = list(read_records(folder, clients=False))
        summary = next((record for record in reversed(records) if record["event"] == "summary"), None)
        if summary is None:
            raise FedummError(f"The run in {folder} is not finished: fedumm federate --resume {folder}")
        rounds = tuple(record for record in records if record["event"] == "round")
        return cls(folder, rounds, summary["best"]["round"])
