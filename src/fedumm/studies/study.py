"""What a study is: options, some of them with several values, and the runs that follow from them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from fedumm.config import CODE, FEDERATION, CentralConfig, FederateConfig, RunConfig, option_fields, read_yaml
from fedumm.config.fields import coerced, shown_value
from fedumm.errors import FedummError, did_you_mean
from fedumm.files import write_atomically
from fedumm.run_options import known_options

FEDERATED, CENTRAL, LOCAL_ONLY, ZERO_SHOT = "federated", "central", "local_only", "zero_shot"
COLUMNS = {
    FEDERATED: "federated",
    CENTRAL: "central",
    LOCAL_ONLY: "local only",
    ZERO_SHOT: "zero-shot",
}
"""What a study can compare, and the headings of the tables."""

COMPARE, NAME = "compare", "name"
STUDY = "study.yaml"
REPEAT = "# A study. Do what is left of it, or the same elsewhere with --name: fedumm sweep"
NOT_OF_A_STUDY = {
    "simulator", "in_process", "export_dir", "use_env_script", "resume", "resume_if_exists", "overwrite", "output_dir",
    "num_epochs", "dry_run",
}  # fmt: skip
"""Options of single runs that a study sets by itself, or that mean nothing in one process."""

_IN_NAMES = {"num_clients": "k", "dirichlet_alpha": "alpha", "seed": "seed", "lr": "lr"}
"""These stand in each run's name, so that a study can get more of their values later and find its runs again."""

# Central runs have no held-out data to stop by, and the test set that the table shows is none.
_OF_CENTRAL = {f.name for f in option_fields(CentralConfig)} - NOT_OF_A_STUDY - {"patience"}
_OF_LOCAL = (
    {f.name for f in option_fields(RunConfig)}
    | {f.name for f in option_fields(FederateConfig) if f.metadata["group"] == FEDERATION}
) - {"clients_per_round", "patience"}
_OF_NO_STUDY = "simulator", "in_process", "use_env_script"


@dataclass(frozen=True)
class StudyRun:
    """One run of a study.

    Attributes:
        kind: ``federated``, ``central`` or ``local_only``.
        name: its folder below the study's.
        options: those that were given, or follow from the study, by name.
    """

    kind: str
    name: str
    options: Mapping[str, Any]

    @property
    def command(self) -> str:
        """What makes such a run alone, in a shell."""
        words = ["fedumm", {FEDERATED: "federate", CENTRAL: "train", LOCAL_ONLY: "sweep"}[self.kind]]
        for name, value in self.options.items():
            words += [f"--{name}"] if value is True else [] if value is False else [f"--{name}", str(value)]
        words += {FEDERATED: ["--in_process"], CENTRAL: [], LOCAL_ONLY: ["--compare", LOCAL_ONLY, "--name", "NAME"]}[
            self.kind
        ]
        return shlex.join(words)


@dataclass(frozen=True)
class Cell:
    """One row of a study's table: a setting, and its runs by kind, one for each seed.

    Attributes:
        setting: the options that have several values in the study, but the seed, with their values here.
    """

    setting: Mapping[str, Any]
    runs: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Study:
    """Options with one value (``base``) and with several (``grid``), and what is compared.

    Raises:
        FedummError: an option is unknown or means nothing in a study, or a list is empty or has a value twice.
    """

    base: Mapping[str, Any]
    grid: Mapping[str, Sequence[Any]]
    compare: Sequence[str] = tuple(COLUMNS)

    def __post_init__(self) -> None:
        known = known_options(FederateConfig)
        for name in (*self.base, *self.grid):
            if name in NOT_OF_A_STUDY:
                raise FedummError(f"--{name} is no option of a study, whose runs are all made in one process.")
            if name not in known:
                raise FedummError(f"Unknown option {shown_value(name)}.{did_you_mean(str(name), known)}")
        for name, values in self.grid.items():
            if not values or len({(type(value), value) for value in values}) < len(values):
                raise FedummError(f"--{name} must list different values, at least one, not {shown_value(values)}.")
        for kind in self.compare:
            if kind not in COLUMNS:
                raise FedummError(f"--{COMPARE} is of {', '.join(COLUMNS)}, not {kind!r}.{did_you_mean(kind, COLUMNS)}")
        if not set(self.compare) - {ZERO_SHOT}:
            raise FedummError(f"--{COMPARE} needs a kind of runs: zero_shot is what these score before they train.")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Study:
        """Of a mapping in which a list means several values, as a study's YAML file holds it.

        Example:
            >>> Study.of({"model_backend": "blip_vqa", "seed": [1, 2], "lr": "1e-4"}).grid
            {'seed': [1, 2]}
        """
        given = {name: value for name, value in values.items() if name != NAME}
        compare = given.pop(COMPARE, list(COLUMNS))
        if isinstance(compare, str):
            compare = [part.strip() for part in compare.split(",")]
        if not isinstance(compare, list) or not all(isinstance(kind, str) for kind in compare):
            raise FedummError(f"{COMPARE} must be a list of {', '.join(COLUMNS)}, not {shown_value(compare)}.")
        known = known_options(FederateConfig)
        read = {name: _coerced(known.get(name), value) for name, value in given.items()}
        grid = {name: value for name, value in read.items() if isinstance(value, list)}
        base = {name: value for name, value in read.items() if name not in grid}
        order = list(COLUMNS)
        return cls(base, grid, tuple(sorted(dict.fromkeys(compare), key=lambda kind: (*order, kind).index(kind))))

    def to_mapping(self) -> dict[str, Any]:
        """The inverse of :meth:`of`."""
        lists = {name: list(values) for name, values in self.grid.items()}
        return {COMPARE: list(self.compare), **self.base, **lists}

    @property
    def varied(self) -> tuple[str, ...]:
        """The options with several values, but the seed."""
        return tuple(name for name in self.grid if name != "seed")

    @property
    def seeds(self) -> Sequence[Any]:
        """All seeds."""
        return self.grid.get("seed", [self._value("seed", self.base)])

    def settings(self) -> Iterator[dict[str, Any]]:
        """Every combination of values, but the seed's."""
        for values in product(*(self.grid[name] for name in self.varied)):
            yield dict(zip(self.varied, values, strict=True))

    def runs(self) -> list[StudyRun]:
        """Every run once, since several settings often share a baseline. Central runs come first, then seed by seed.

        Raises:
            FedummError: two runs would have one name.
        """
        found: dict[str, StudyRun] = {}
        kinds = [kind for kind in (FEDERATED, LOCAL_ONLY) if kind in self.compare]
        order = [[CENTRAL]] * (CENTRAL in self.compare) + [kinds]
        for several in order:
            for seed, setting in product(self.seeds, self.settings()):
                for kind in several:
                    run = self._run(kind, setting, seed)
                    if found.setdefault(run.name, run).options != run.options:
                        raise FedummError(f"Two runs of this study would be called {run.name}: make it two studies.")
        return list(found.values())

    def cells(self) -> list[Cell]:
        """The rows of the table."""
        kinds = [kind for kind in self.compare if kind != ZERO_SHOT]
        return [
            Cell(setting, {kind: [self._run(kind, setting, seed).name for seed in self.seeds] for kind in kinds})
            for setting in self.settings()
        ]

    def _run(self, kind: str, setting: Mapping[str, Any], seed: Any) -> StudyRun:
        options = {**self.base, **setting, "seed": seed}
        if kind == CENTRAL:
            epochs = self._value("num_rounds", options) * self._value("local_epochs", options)
            options = {n: v for n, v in options.items() if n in _OF_CENTRAL} | {"num_epochs": epochs}
        elif kind == LOCAL_ONLY:
            options = {n: v for n, v in options.items() if n in _OF_LOCAL}
        own = known_options(CentralConfig if kind == CENTRAL else FederateConfig)
        parts = [kind]
        for name, short in _IN_NAMES.items():
            if name in own:
                parts.append(f"{short}{_plain(self._value(name, options))}")
        further = [name for name in self.varied if name in options and name not in _IN_NAMES]
        if kind == CENTRAL and {"num_rounds", "local_epochs"} & set(self.varied):
            further.append("num_epochs")
        parts += [f"{name}={_plain(options[name])}" for name in further]
        return StudyRun(kind, "-".join(parts), options)

    @staticmethod
    def _value(name: str, options: Mapping[str, Any]) -> Any:
        field = known_options(CentralConfig if name == "num_epochs" else FederateConfig)[name]
        value = coerced(field, options.get(name, field.default))
        if name in ("num_rounds", "local_epochs") and type(value) is not int:
            raise FedummError(f"--{name} must be of type int, not {shown_value(value)}.")
        return value


def _coerced(field: Any, value: Any) -> Any:
    if field is None:
        return value
    return [coerced(field, one) for one in value] if isinstance(value, list) else coerced(field, value)


def _plain(value: Any) -> str:
    """A value in the name of a folder: ``5e-05``; what no file name should hold becomes a line."""
    return re.sub(r"[^\w.+,=-]+", "-", f"{value:g}" if isinstance(value, float) else str(value)) or "none"


def read_study(path: str | Path) -> dict[str, Any]:
    """The mapping that a study's file holds.

    Raises:
        FedummError: it is no YAML file of options, or names code.
    """
    return read_yaml(path)


def write_study(study: Study, folder: Path) -> None:
    """Write ``study.yaml``, all of the study but its name and plugins."""
    kept = {name: value for name, value in study.to_mapping().items() if name != CODE}
    write_atomically(folder / STUDY, f"{REPEAT}\n{yaml.safe_dump(kept, sort_keys=False)}")


def is_study(folder: Path) -> bool:
    """Whether ``folder`` is one that :func:`write_study` wrote to."""
    file = folder / STUDY
    return file.is_file() and file.read_bytes().startswith(REPEAT.encode())
