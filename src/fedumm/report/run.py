"""A run that is there, read back from its folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.report.run_folder import CONFIG, METRICS, folder_for_name, read_config, read_records


@dataclass(frozen=True)
class Run:
    """One federated run.

    Attributes:
        path: its folder.
        rounds: one mapping a finished round, with the keys of ``metrics.jsonl`` (docs/architecture.md).
        summary: the best and the last version with their scores, ``{}`` while the run is not finished.
    """

    path: Path
    rounds: tuple[dict[str, Any], ...]
    summary: dict[str, Any]

    @cached_property
    def config(self) -> FederateConfig:
        """The options that the run was made with.

        Raises:
            FedummError: they name something that a plugin registers, and that is not loaded.
        """
        return read_config(self.path)

    @cached_property
    def clients(self) -> tuple[dict[str, Any], ...]:
        """As ``rounds``, one mapping for each client and round: of many clients, a large file is read."""
        return tuple(record for record in read_records(self.path) if record["event"] == "client")

    @property
    def best(self) -> dict[str, Any]:
        """Round and scores of the best version of the adapter; empty while there is none."""
        return dict(self.summary.get("best") or {})

    def adapter(self, which: str = "best") -> Path:
        """The folder of the ``best`` or the ``last`` adapter, in PEFT's format.

        Raises:
            FedummError: the run has saved none yet.
        """
        folder = self.path / "adapter" / which
        if which not in ("best", "last") or not folder.is_dir():
            raise FedummError(f"The run in {self.path} has no adapter {which!r}.")
        return folder


def load_run(run: str | Path) -> Run:
    """Read a run's folder: ``runs/NAME`` for a bare name, else a path.

    Raises:
        FedummError: there is no run in it.
    """
    path = run if isinstance(run, Path) else folder_for_name(run)
    if not (path / CONFIG).is_file():
        raise FedummError(f"{path}: there is no run in that folder.")
    records = list(read_records(path, clients=False)) if (path / METRICS).is_file() else []
    rounds = tuple(record for record in records if record["event"] == "round")
    return Run(path, rounds, next((r for r in reversed(records) if r["event"] == "summary"), {}))
