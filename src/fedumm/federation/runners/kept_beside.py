"""A run whose server and sites live no longer than a Slurm job: what they keep for the next job lies beside the run.

``.NAME.kept`` holds ``parties``, a folder for the server and for each site, ``job.json``, the run's number, and
``config.yaml``, its options. While a job goes on it holds its startup kits, too: each job makes new ones, since its
server may be on another node.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fedumm.config import FederateConfig, write_yaml
from fedumm.errors import FedummError
from fedumm.federation.runners.flare.kept_run import JOB, PLACE, read_run
from fedumm.federation.runners.flare.kits import SERVER
from fedumm.federation.runners.same_options import check_rounds, check_same
from fedumm.files import write_atomically
from fedumm.report.run_folder import CONFIG, read_config
from fedumm.run_options import to_mapping
from fedumm.stopping import undisturbed


class KeptBeside:
    """Of the run in the folder ``path``.

    Attributes:
        folder: for this user only.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path.with_name(f".{path.name}.kept")

    @property
    def run(self) -> str:
        """The number of its first job; empty before there was one.

        Raises:
            FedummError: that is damaged.
        """
        return read_run(self.folder)

    @property
    def at_server(self) -> Path:
        """The run's folder at the server, once there was a job."""
        return self._parties / SERVER / self.run

    @property
    def _parties(self) -> Path:
        return self.folder / "parties"

    @contextmanager
    def kits(self) -> Iterator[Path]:
        """A new folder for the kits of one job, which hold keys: gone afterwards.

        Raises:
            FedummError: it can't be made.
        """
        place = self.folder / "kits"
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            os.chmod(self.folder, 0o700)
            shutil.rmtree(place, ignore_errors=True)  # of a job that was killed
            place.mkdir(mode=0o700)
        except OSError as error:
            raise FedummError(f"{place} can't be made: {error.strerror or error}.") from error
        try:
            yield place
        finally:
            with undisturbed():
                shutil.rmtree(place, ignore_errors=True)

    def link(self, kits: Mapping[str, Path]) -> None:
        """Let what the owners of the kits ``kits`` keep of runs lie here."""
        for name, kit in kits.items():
            own = self._parties / name
            own.mkdir(parents=True, exist_ok=True)
            (kit / PLACE).symlink_to(own, target_is_directory=True)

    def begin(self, job: str, config: FederateConfig, command: str) -> None:
        """Remember the run by its first job, the options that it began with, and the command that did."""
        if not self.run:
            write_yaml(to_mapping(config), self.folder / CONFIG, command)
            write_atomically(self.folder / JOB, json.dumps({"run": job}))

    def check(self, path: Path, config: FederateConfig) -> None:
        """Whether the run in ``path``, once begun, can go on with the options ``config``.

        Raises:
            FedummError: it can't, or what is kept is damaged.
        """
        begun = read_config(self.folder)
        check_same(path, begun, config)
        check_rounds(to_mapping(begun), config.num_rounds)

    def remove(self) -> None:
        """Forget all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)
