"""A run that is there, read back from its folder."""

from __future__ import annotations

from dataclasses import dataclass
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
        config: the options that it was made with.
        rounds: one mapping a finished round, with the keys of ``metrics.jsonl`` (docs/architecture.md).
        clients: the same, one for each client and round.
        summary: the best and the last version with their scores, ``{}`` while the run is not finished.
    """

    path: Path
    config: FederateConfig
    rounds: tuple[dict[str, Any], ...]
    clients: tuple[dict[str, Any], ...]
    summary: dict[str, Any]

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
    records = list(read_records(path)) if (path / METRICS).is_file() else []
    by_event = {event: tuple(r for r in records if r["event"] == event) for event in ("round", "client", "summary")}
    return Run(
        path=path,
        config=read_config(path),
        rounds=by_event["round"],
        clients=by_event["client"],
        summary=by_event["summary"][-1] if by_event["summary"] else {},
    )
