"""A run that is there, read back from its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedumm.api.adapter import Adapter
from fedumm.config import CentralConfig, FederateConfig, read_yaml
from fedumm.errors import FedummError
from fedumm.report.frames import clients_frame, epochs_frame, rounds_frame
from fedumm.report.run_folder import CLIENTS, CONFIG, METRICS, folder_for_name, read_config, read_records
from fedumm.run_options import from_mapping
from fedumm.shell import quoted
from fedumm.texts import one_line

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SAMPLES = "samples.jsonl"


@dataclass(frozen=True)
class Run:
    """One run, federated or central: then its epochs are its rounds, and it has no clients.

    Attributes:
        path: its folder.
        records: one mapping for each record of the run but those of clients, with the keys of ``metrics.jsonl``
            (docs/architecture.md).
    """

    path: Path
    records: tuple[dict[str, Any], ...] = field(repr=False)

    @cached_property
    def central(self) -> bool:
        """Whether all data were in one place."""
        if any(record["event"] in ("epoch", "round") for record in self.records):
            return any(record["event"] == "epoch" for record in self.records)
        return "num_epochs" in read_yaml(self.path / CONFIG)

    @cached_property
    def config(self) -> FederateConfig | CentralConfig:
        """The options that the run was made with.

        Raises:
            FedummError: they name something that a plugin registers, and that is not loaded.
        """
        if self.central:
            return from_mapping(CentralConfig, read_yaml(self.path / CONFIG), str(self.path / CONFIG))
        return read_config(self.path)

    @property
    def summary(self) -> dict[str, Any]:
        """The best and the last version with their scores, ``{}`` while the run is not finished."""
        return next((record for record in reversed(self.records) if record["event"] == "summary"), {})

    @property
    def round_records(self) -> tuple[dict[str, Any], ...]:
        """One mapping a finished round, or epoch."""
        event = "epoch" if self.central else "round"
        return tuple(record for record in self.records if record["event"] == event)

    @cached_property
    def client_records(self) -> tuple[dict[str, Any], ...]:
        """One mapping for each client and round: of many clients, a large file is read."""
        there = (self.path / METRICS).is_file()
        return tuple(record for record in read_records(self.path) if record["event"] == "client") if there else ()

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """A row for each finished round, or epoch, by its number (:mod:`fedumm.report.frames`)."""
        return (epochs_frame if self.central else rounds_frame)(self.round_records)

    @cached_property
    def clients(self) -> pd.DataFrame:
        """A row for each client in each round, by round and client."""
        return clients_frame(self.client_records)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Example questions with the answers before and after, as the report shows them.

        Raises:
            FedummError: no report was made yet, or its file is damaged.
        """
        import pandas as pd

        path = self.path / SAMPLES
        if not path.is_file():
            raise FedummError(f"{path} is not there: fedumm report {quoted(self.path)} makes it.")
        try:
            return pd.DataFrame([dict(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()])
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise FedummError(f"{path} can't be read: {one_line(error)}") from error

    @property
    def best(self) -> dict[str, Any]:
        """Round and scores of the best version of the adapter; empty while there is none."""
        return dict(self.summary.get("trained" if self.central else "best") or {})

    def plot(self) -> Figure:
        """Scores by round, of the global adapter and of each client's own, and the training loss.

        A notebook shows the figure; ``figure.savefig("rounds.pdf")`` saves it.

        Raises:
            FedummError: no round is finished yet.
        """
        from fedumm.report.client_curves import clients_figure
        from fedumm.report.figures import epochs_figure

        if not self.round_records:
            raise FedummError(f"The run in {self.path} has no finished round to plot.")
        if self.central:
            drawn: Figure = epochs_figure(self.records, self.path.name)[0]
            return drawn
        figure: Figure = clients_figure(self.records, self.client_records, self.path.name)
        return figure

    def adapter(self, which: str = "best", **options: Any) -> Adapter:
        """The ``best`` or the ``last`` adapter, or that of a client that keeps its own, by its name.

        A central run has one adapter, whichever is asked for.

        Args:
            options: see :class:`Adapter`.

        Raises:
            FedummError: the run has saved none yet.
        """
        if self.central and which in ("best", "last") and (self.path / "adapter").is_dir():
            return Adapter(self.path / "adapter", **options)
        own = {path.parent.name: path for path in (self.path / CLIENTS).glob("*/adapter")}
        folder = {name: self.path / "adapter" / name for name in ("best", "last")}.get(which) or own.get(which)
        if folder is None or not folder.is_dir():
            raise FedummError(f"The run in {self.path} has no adapter {one_line(which)!r}.")
        return Adapter(folder, **options)


def load_run(run: str | Path) -> Run:
    """Read a run's folder: ``runs/NAME`` for a bare name, else a path.

    Raises:
        FedummError: there is no run in it.
    """
    path = run if isinstance(run, Path) else folder_for_name(run)
    if not (path / CONFIG).is_file():
        raise FedummError(f"{path}: there is no run in that folder.")
    return Run(path, tuple(read_records(path, clients=False)) if (path / METRICS).is_file() else ())
