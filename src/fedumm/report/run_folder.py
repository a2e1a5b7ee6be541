"""A run is a folder: options, partition, metrics, adapters, figures.

======================  =======================================================
``config.yaml``         every option; ``--config`` with it repeats the run
``plugins.sha256``      digest of each ``--plugin``, if there was one
``answers.sha256``      digest of the answers of ``--answers``, if there were any
``partition.json``      clients' sizes and labels (and ``partition.png``)
``metrics.jsonl``       one JSON object a line: set-up, clients, rounds, summary
``rounds.png``          score and loss by round
``report.html``         all of it on one page (:mod:`fedumm.report.page`), with examples in ``samples/``
``tensorboard/``        the same numbers as TensorBoard events
``adapter/best``        PEFT folder of the round with the best held-out score
``adapter/last``        PEFT folder after the last finished round
``state/``              what ``--resume`` needs
``clients/``            what clients keep from round to round, where the method asks for it
``steps/``              losses by training step, of clients on this machine (:mod:`fedumm.step_losses`)
======================  =======================================================
"""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fedumm.backends.registry import backend_plugins, with_model_name
from fedumm.config import FederateConfig, command_of, is_ours, read_yaml, write_yaml
from fedumm.errors import FedummError
from fedumm.files import write_atomically
from fedumm.model_card import Facts, federated_card
from fedumm.output import check_plain
from fedumm.report.answers_digest import keep_answers_digest
from fedumm.report.partition_file import save_partition
from fedumm.report.plugin_digest import keep_digests
from fedumm.run_events import AdapterEvent, PartitionEvent, Record, RunListener
from fedumm.run_options import from_mapping, to_mapping
from fedumm.trackers import TENSORBOARD
from fedumm.trackers.tracking import Tracking

RUNS = Path("runs")
CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
ROUNDS = "rounds.png"
REPORT = "report.html"
STATE = "state"
CLIENTS = "clients"
LOG = "flare.log"
LOCK = ".lock"

_OF_A_CLIENT = b'{"event": "client",'
"""How such a line begins: see :func:`fedumm.federation.server.metrics_records.client_record`."""


def folder_for(config: FederateConfig) -> Path:
    """That of ``--name``, or one named after the options and the time."""
    if config.name:
        return folder_for_name(config.name)
    data = re.sub(r"[^\w.-]+", "-", config.dataset or "default").strip("-")
    # Two runs may start within a second.
    when = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    return RUNS / f"{config.model_backend}-{data}-k{config.num_clients}-{when}"


def folder_for_name(name: str) -> Path:
    """The folder that ``--name`` and ``--resume`` mean: a path is a path, a bare name is ``runs/NAME``.

    A path has a separator in it, as in ``./NAME``, or is ``.`` or ``..``.
    """
    if name in (".", "..") or any(separator in name for separator in filter(None, ("/", os.sep, os.altsep))):
        return Path(name)
    return RUNS / name


class RunFolder(RunListener):
    """Writes one run's files as it is told of them. Each is replaced as a whole or appended to by whole lines.

    Args:
        path: an existing folder.
        config: the run's options, for the model cards.
        show: called with every record that is written.
    """

    def __init__(self, path: Path, config: FederateConfig, show: Callable[[Record], None] | None = None) -> None:
        self.path, self.config, self._show = path, config, show
        # Other trackers are for the process that the user started: this one may have no network.
        own = [TENSORBOARD] if TENSORBOARD in config.trackers else []
        self._events = Tracking(own, path, self._warn)
        self._drawing: threading.Thread | None = None

    @property
    def state(self) -> Path:
        """The folder of what ``--resume`` needs."""
        return self.path / STATE

    def on_partition(self, event: PartitionEvent) -> None:
        """Write ``partition.json`` and its figure."""
        save_partition(self.path, self.config, event)
        labels = {name: client["labels"] or {"all": client["train"]} for name, client in event.clients.items()}
        # Importing TensorBoard and matplotlib and drawing take seconds, in which clients can train.
        self._drawing = threading.Thread(target=self._draw_partition, args=(labels,))
        self._drawing.start()

    def _draw_partition(self, labels: Mapping[str, Mapping[str, int]]) -> None:
        if TENSORBOARD in self.config.trackers:
            importlib.import_module("torch.utils.tensorboard")
        from fedumm.report.figures import save_partition_figure

        try:
            save_partition_figure(labels, self.path / "partition.png", self.path.name)
        except OSError as error:  # a full disk; what matters will say so by itself
            self._warn(f"{self.path / 'partition.png'} is not drawn: {error}")

    def on_record(self, record: Record) -> None:
        """Append one line to ``metrics.jsonl``; NaN and infinity become null."""
        clean = finite(record)
        with open(self.path / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(clean, allow_nan=False) + "\n")
            file.flush()
            if record["event"] != "client":
                # With the round that follows; of a thousand clients a thousand waits.
                os.fsync(file.fileno())
        self._write_events(clean)
        if self._show:
            self._show(clean)

    def _write_events(self, record: Record) -> None:
        self._events.on_record(record)

    def on_adapter(self, event: AdapterEvent) -> None:
        """Write ``adapter/best`` or ``adapter/last``, atomically."""
        from fedumm.adapters.folder import save_folder
        from fedumm.adapters.origin import Origin

        facts = Facts(epsilon=event.epsilon, rank=event.rank, cut=event.cut, whole=event.complete)
        plugins = backend_plugins(self.config)
        card = federated_card(with_model_name(self.config), event.version, event.scores, self.path.name, facts, plugins)
        folder = self.path / "adapter" / event.which
        save_folder(folder, event.state, event.adapter_config, card, Origin.of(self.config, plugins))

    def finish(self) -> None:
        """Close the event file and draw the figure of rounds.

        What can't be written is told (a record ``warning``, which is in no file), and hides no other error.
        """
        from fedumm.report.figures import for_rounds_figure, save_rounds_figure

        if self._drawing:
            self._drawing.join()
        try:
            self._events.finish()
            if (self.path / METRICS).exists():
                kept = [for_rounds_figure(record) for record in read_records(self.path, clients=False)]
                save_rounds_figure(kept, self.path / ROUNDS, self.path.name)
        except (OSError, FedummError) as error:
            self._warn(f"{self.path / ROUNDS} is not drawn: {error}")

    def _warn(self, text: str) -> None:
        if self._show:
            self._show({"event": "warning", "text": text})


def check_free(path: Path, overwrite: bool) -> None:
    """Raise :class:`FedummError` if the folder of a new run holds what must not be replaced.

    A run that ended before it had anything to record leaves its name free.
    """
    if not path.is_dir():
        return
    if _contents(path) and not is_ours(path / CONFIG):
        raise FedummError(
            f"Run folder {path} exists. It holds files but no {CONFIG} of a run, so not even --overwrite "
            "touches it. Choose another --name."
        )
    if (path / METRICS).exists() and not overwrite:
        raise FedummError(f"Run folder {path} exists. Choose another --name, or replace it with --overwrite.")


def create(path: Path, config: FederateConfig, command: str) -> FileLock:
    """Make the folder with its ``config.yaml``, and lock it for this process.

    Raises:
        FedummError: it exists (without ``--overwrite``), is no run folder, or another process is using it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        check_free(path, config.overwrite)
        lock = locked_folder(path)
    except Timeout:
        raise FedummError(f"Run folder {path} is in use by another process. Choose another --name.") from None
    except OSError as error:
        raise FedummError(f"Run folder {path} can't be made: {error}") from error
    try:
        # Another process may have had it until now.
        check_free(path, config.overwrite)
    except FedummError:
        lock.release()
        raise
    for other in _contents(path):
        shutil.rmtree(other) if other.is_dir() and not other.is_symlink() else other.unlink()
    keep_digests(path, config.plugins)
    keep_answers_digest(path, config.answers)
    write_yaml(to_mapping(config), path / CONFIG, command)
    return lock


def lock_run(path: Path) -> FileLock:
    """Lock a run folder that is there for this process.

    Raises:
        FedummError: another process is using it, it holds links, or it can't be written to.
    """
    check_run_folder(path)
    try:
        return locked_folder(path)
    except Timeout:
        raise FedummError(f"Run folder {path} is in use by another process.") from None
    except OSError as error:
        raise FedummError(f"Run folder {path} can't be resumed: {error}.") from error


def check_run_folder(path: Path) -> None:
    """Raise :class:`FedummError` if a run can't be resumed in ``path`` without being written to elsewhere."""
    check_plain(path, (METRICS, LOG, LOCK))


def locked_folder(path: Path) -> FileLock:
    """Lock a folder for this process. (Taking a lock empties its file, of whatever name.)

    Raises:
        FedummError: the lock's file is a link.
        Timeout: another process has it.
    """
    if (path / LOCK).is_symlink():
        raise FedummError(f"{path / LOCK} is a link: what is written there could land outside {path}. Delete it.")
    lock = FileLock(path / LOCK)
    lock.acquire(timeout=0)
    return lock


@contextmanager
def reopened(path: Path, config: FederateConfig, records: int) -> Iterator[None]:
    """Resume a locked run by ``config``; of ``metrics.jsonl`` the first ``records`` lines stay.

    If the run is refused before it has recorded anything, its ``config.yaml`` is again what it was.

    Raises:
        FedummError: it can't be written to, or records are missing.
    """
    try:
        size = _bytes_of(path / METRICS, records)
        if size is None:
            raise FedummError(f"{path / METRICS} is shorter than it was: this run can't be resumed.")
        before = (path / CONFIG).read_text(encoding="utf-8")
        os.truncate(path / METRICS, size)
        for shown in (ROUNDS, REPORT):
            (path / shown).unlink(missing_ok=True)
        _mend_adapters(path)
        write_yaml(to_mapping(config), path / CONFIG, command_of(before))
    except OSError as error:
        raise FedummError(f"Run folder {path} can't be resumed: {error}.") from error
    try:
        yield
    except FedummError:
        if (path / METRICS).stat().st_size == size:
            write_atomically(path / CONFIG, before)
        raise


def _bytes_of(path: Path, lines: int) -> int | None:
    """How long the first ``lines`` lines are; None if there are fewer whole ones."""
    with open(path, "rb") as file:
        first = [len(line) for line in islice(file, lines) if line.endswith(b"\n")]
    return sum(first) if len(first) == lines else None


def _mend_adapters(path: Path) -> None:
    from fedumm.adapters.folder import mend_folder

    for folder in (path / "adapter" / "best", path / "adapter" / "last", *(path / CLIENTS).glob("*/adapter")):
        mend_folder(folder)


def _contents(path: Path) -> list[Path]:
    return [p for p in path.iterdir() if p.name != LOCK]


def read_config(path: Path) -> FederateConfig:
    """The options a run was made with."""
    return from_mapping(FederateConfig, read_yaml(path / CONFIG), str(path / CONFIG))


def read_records(path: Path, clients: bool = True) -> Iterator[Record]:
    """The lines of ``metrics.jsonl``, one after the other; a last line cut short by a crash is no record.

    Args:
        clients: whether to read those of each client and round, which are most of the file, as well.

    Raises:
        FedummError: a line is no record.
    """
    with open(path / METRICS, "rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n") and (clients or not line.startswith(_OF_A_CLIENT)):
                yield _record(line, f"Line {number} of {path / METRICS}")


def _record(line: bytes, what: str) -> Record:
    try:
        record = json.loads(line)
        if isinstance(record, dict) and isinstance(record.get("event"), str):
            return record
    except (ValueError, RecursionError):
        pass
    raise FedummError(f"{what} is no record of a run.")


def finite(value: Any) -> Any:
    """``value`` as JSON can hold it: NaN and infinity become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
