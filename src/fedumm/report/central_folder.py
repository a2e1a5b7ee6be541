"""The folder of a central run: options, records, the figure of epochs, the adapter; and what trackers are told."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedumm.adapters.folder import WEIGHTS
from fedumm.config import CentralConfig, is_ours, write_yaml
from fedumm.errors import FedummError
from fedumm.output import check_folder
from fedumm.report.answers_digest import keep_answers_digest
from fedumm.report.overview import kind_of
from fedumm.report.page.examples import PICTURES, SAMPLES
from fedumm.report.plugin_digest import keep_digests
from fedumm.report.run_folder import CONFIG, METRICS, REPORT, finite, read_records
from fedumm.run_options import to_mapping, told_options
from fedumm.step_losses import STEPS
from fedumm.trackers.tracking import KNOWN, Tracking
from fedumm.training.data_check import DATA
from fedumm.training.generation_eval import DRAWINGS

EPOCHS = "epochs.png"
_OURS = (METRICS, EPOCHS, DATA, DRAWINGS, "tensorboard", "adapter", STEPS, KNOWN, REPORT, SAMPLES, PICTURES)
"""What a run writes, and deletes of one before."""


def is_finished(folder: Path) -> bool:
    """Whether ``folder`` holds a central run that came to its end.

    Raises:
        FedummError: its records are damaged.
    """
    return (folder / METRICS).is_file() and any(r["event"] == "summary" for r in read_records(folder, clients=False))


def check_output(folder: Path, overwrite: bool) -> None:
    """Raise :class:`FedummError` before any work if ``folder`` can't be written to, or holds what must not be replaced:
    files that are not ours, or, without ``overwrite``, a finished run."""
    check_folder("output_dir", folder)
    adapter, ours = folder / "adapter", is_ours(folder / CONFIG)
    federated = ours and kind_of(folder / CONFIG) == "federated"
    if federated or (adapter.exists() and not (adapter / WEIGHTS).exists()):
        raise FedummError(
            f"--output_dir {folder} holds a federated run, or files of another program. Choose another folder."
        )
    others = [name for name in (CONFIG, *_OURS) if os.path.lexists(folder / name)]
    if others and not ours:
        raise FedummError(
            f"--output_dir {folder} holds {others[0]}, and no {CONFIG} of a run: what a run writes would replace it. "
            "Choose another folder."
        )
    if not overwrite and ((folder / "adapter").exists() or is_finished(folder)):
        raise FedummError(
            f"--output_dir {folder} holds a finished run. Choose another folder, or replace it with --overwrite."
        )


class CentralFolder:
    """Writes a central run's files as it is told of them.

    Args:
        path: where it is written; what a run before left there is deleted, other files stay.
        command: what repeats the run, for ``config.yaml``.
        warn: is told of a tracker that failed.

    Raises:
        FedummError: a tracker of the options can't start.
    """

    def __init__(self, path: Path, config: CentralConfig, command: str, warn: Callable[[str], None]) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        for old in (path / name for name in _OURS):
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink(missing_ok=True)
        keep_digests(path, config.plugins)
        keep_answers_digest(path, config.answers)
        write_yaml(to_mapping(config), path / CONFIG, command)
        self.tracking = Tracking(config.trackers, path, warn)
        self.tracking.start(told_options(config))

    @property
    def contents(self) -> str:
        """What a finished run has in its folder, besides the adapter."""
        shown = [METRICS, EPOCHS, *(["tensorboard/"] if (self.path / "tensorboard").is_dir() else [])]
        return ", ".join(shown)

    def on_record(self, record: Mapping[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``, and tell the trackers."""
        clean = finite(record)
        with open(self.path / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(clean, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.tracking.on_record(clean)

    def finish(self) -> str:
        """End the tracking and draw the figure of epochs.

        Returns:
            What could not be written, in words; empty if all was.
        """
        from fedumm.report.figures import save_epochs_figure

        try:
            self.tracking.finish()
            save_epochs_figure(list(read_records(self.path)), self.path / EPOCHS, self.path.name)
        except (OSError, FedummError) as error:
            return f"{self.path / EPOCHS} is not drawn: {error}"
        return ""
