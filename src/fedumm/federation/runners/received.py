"""The result of a job at a server, as a run here: what of it is taken, and what is looked at before."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedumm.backends.registry import backend_plugins
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.runners.flare.jobs import plain_record
from fedumm.federation.runners.flare.kept_run import JOB
from fedumm.federation.runners.flare.process_guard import ERROR
from fedumm.files import write_atomically
from fedumm.output import check_plain
from fedumm.report.partition_file import PARTITION
from fedumm.report.run_folder import METRICS, ROUNDS, STATE, RunFolder, read_records
from fedumm.run_events import Record
from fedumm.texts import plain_lines

_TAKEN = (JOB, METRICS, PARTITION, "partition.png", ROUNDS, "adapter", "tensorboard", STATE)
"""What a run folder gets from a server. Its options are those that it was started with here; a page is made here."""

_LONGEST = 20_000


def records_of(received: Path) -> list[Record]:
    """All that a job recorded.

    Raises:
        FedummError: its folder holds links, or something else than records.
    """
    check_plain(received)
    return [plain_record(record) for record in read_records(received)] if (received / METRICS).is_file() else []


def error_of(received: Path) -> str:
    """Why the server gave the run up; empty if it does not say."""
    file = received / ERROR
    if not file.is_file():
        return ""
    with open(file, encoding="utf-8", errors="replace") as text:
        return plain_lines(text.read(_LONGEST)).strip()


def take(received: Path, path: Path, config: FederateConfig, show: Callable[[dict[str, Any]], None]) -> None:
    """Move what is a run's into the run folder ``path``, whose options are ``config``.

    Raises:
        FedummError: it can't be written.
    """
    try:
        for name in _TAKEN:
            if (received / name).exists():
                shutil.move(received / name, path / name)
        _name_model(path, config)
    except OSError as error:
        raise FedummError(f"The result can't be written to {path}: {error.strerror or error}.") from error
    if not (path / ROUNDS).exists():
        RunFolder(path, config, show).finish()


def _name_model(path: Path, config: FederateConfig) -> None:
    """Let the adapters say which model they are of as it is called here; their server may know it by another name."""
    from fedumm.adapters.origin import ORIGIN, Origin

    for file in (path / "adapter").glob(f"*/{ORIGIN}"):
        write_atomically(file, Origin.of(config, backend_plugins(config)).text())
