"""What a study is: options, some of them with several values, and the runs that follow from them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from fedumm.config import CODE, FEDERATION, CentralConfig, FederateConfig, RunConfig, option_fields
from fedumm.config.fields import coerced, shown_value
from fedumm.errors import FedummError, did_you_mean
from fedumm.files import write_atomically
from fedumm.run_options import known_options
from fedumm.studies.study_run import (
    CENTRAL,
    CHOSEN,
    COLUMNS,
    FEDERATED,
    LOCAL_ONLY,
    TO_CHOOSE,
    ZERO_SHOT,
    Cell,
    StudyRun,
)
from fedumm.tasks import T2I, TASK_OPTIONS

COMPARE, NAME, SEARCH = "compare", "name", "lr_search"
STUDY = "study.yaml"
REPEAT = "# A study. Do what is left of it, or the same elsewhere with --name: fedumm sweep"
NOT_OF_A_STUDY = {
    "simulator", "in_process", "export_dir", "use_env_script", "resume", "resume_if_exists", "overwrite", "output_dir",
    "num_epochs", "dry_run",
}  # fmt: skip
"""Options of single runs that a study sets by itself, or that mean nothing in one process."""

_IN_NAMES = {"num_clients": "k", "dirichlet_alpha": "alpha", "seed": "seed", "lr": "lr"}
"""These stand in each run's name, so that a study can get more of their values later and find its runs again."""

# Central runs train on all rows, as a reader expects of them: there is no held-out data to stop by, and the test set
# that the table shows is none. Only their short runs hold out.
_OF_CENTRAL = {f.name for f in option_fields(CentralConfig)} - NOT_OF_A_STUDY - {"patience", "holdout"}
_OF_LOCAL = (
    {f.name for f in option_fields(RunConfig)}
    | {f.name for f in option_fields(FederateConfig) if f.metadata["group"] == FEDERATION}
) - {"clients_per_round", "patience"}
_OF_NO_STUDY = "simulator", "in_process", "use_env_script"


@dataclass(frozen=True)
class Study:
    """Options with one value (``base``) and with several (``grid``), and what is compared.

    Attributes:
        lr_search: rounds of the short runs that choose the learning rate of each setting; 0: all of them run in full.
        rates: what they have chosen, by kind and values of the setting: see :meth:`settled`.

    Raises:
        FedummError: an option is unknown or means nothing in a study, a list is empty or has a value twice, or there
            is nothing to search.
    """

    base: Mapping[str, Any]
    grid: Mapping[str, Sequence[Any]]
    compare: Sequence[str] = tuple(COLUMNS)
    lr_search: int = 0
    rates: Mapping[tuple[Any, ...], Any] = field(default_factory=dict)

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
        if type(self.lr_search) is not int or self.lr_search < 0:
            raise FedummError(f"--{SEARCH} is a number of rounds (0: no search), not {shown_value(self.lr_search)}.")
        if self.lr_search:
            self._check_search()

    def _check_search(self) -> None:
        if len(self.grid.get(CHOSEN, ())) < 2:
            raise FedummError(f"--{SEARCH} needs learning rates to choose from: --{CHOSEN} 1e-4,5e-4,2e-3.")
        fewest = min(self._value("num_rounds", {"num_rounds": own} if own else {}) for own in self._of("num_rounds"))
        if self.lr_search > fewest:
            raise FedummError(f"--{SEARCH} {self.lr_search} is more than --num_rounds {fewest}: give fewer.")
        if FEDERATED in self.compare and any(own not in (None, "off") for own in self._of("dp")):
            raise FedummError(
                f"--{SEARCH} chooses by clients' scores, and with --dp none that are not private may decide anything: "
                f"give one --{CHOSEN}."
            )
        if CENTRAL in self.compare and "holdout" in self.grid:
            raise FedummError(
                f"--{SEARCH} holds out one share of a central run's rows: give --holdout one value, or leave central "
                f"out of --{COMPARE}."
            )

    def _of(self, name: str) -> Sequence[Any]:
        """Every value of an option; None: it is not given."""
        return self.grid.get(name, [self.base.get(name)])

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Study:
        """Of a mapping in which a list means several values, as a study's YAML file holds it.

        Example:
            >>> Study.of({"model_backend": "blip_vqa", "seed": [1, 2], "lr": "1e-4"}).grid
            {'seed': [1, 2]}
        """
        given = {name: value for name, value in values.items() if name != NAME}
        compare, search = given.pop(COMPARE, list(COLUMNS)), given.pop(SEARCH, 0)
        if isinstance(compare, str):
            compare = [part.strip() for part in compare.split(",")]
        if not isinstance(compare, list) or not all(isinstance(kind, str) for kind in compare):
            raise FedummError(f"{COMPARE} must be a list of {', '.join(COLUMNS)}, not {shown_value(compare)}.")
        known = known_options(FederateConfig)
        read = {name: _coerced(known.get(name), value) for name, value in given.items()}
        grid = {name: value for name, value in read.items() if isinstance(value, list)}
        base = {name: value for name, value in read.items() if name not in grid}
        order = list(COLUMNS)
        kinds = tuple(sorted(dict.fromkeys(compare), key=lambda kind: (*order, kind).index(kind)))
        return cls(base, grid, kinds, search)

    def to_mapping(self) -> dict[str, Any]:
        """The inverse of :meth:`of`."""
        lists = {name: list(values) for name, values in self.grid.items()}
        search = {SEARCH: self.lr_search} if self.lr_search else {}
        return {COMPARE: list(self.compare), **search, **self.base, **lists}

    @property
    def varied(self) -> tuple[str, ...]:
        """The options with several values in the table: not the seed, nor a learning rate that is searched for."""
        return tuple(name for name in self.grid if name != "seed" and not (self.lr_search and name == CHOSEN))

    @property
    def kinds(self) -> list[str]:
        """The kinds of runs, of which zero-shot is none."""
        return [kind for kind in self.compare if kind != ZERO_SHOT]

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

        In a search these are the full ones, each with the learning rate that was chosen, or :data:`TO_CHOOSE`.

        Raises:
            FedummError: two runs would have one name.
        """
        return self._once(
            self._run(kind, setting, seed)
            for several in self._order()
            for seed, setting in product(self.seeds, self.settings())
            for kind in several
        )

    def short_runs(self) -> list[StudyRun]:
        """The runs of a search, with the first seed, each once; none without one.

        Raises:
            FedummError: two runs would have one name.
        """
        return self._once(
            self._short(kind, setting, rate)
            for several in self._order() * bool(self.lr_search)
            for setting in self.settings()
            for kind in several
            for rate in self.grid[CHOSEN]
        )

    def in_full(self) -> Study:
        """The same study without a search: every learning rate runs in full."""
        return replace(self, lr_search=0, rates={})

    def settled(self, rates: Mapping[tuple[Any, ...], Any]) -> Study:
        """With the learning rates that were chosen, by (kind, values of the setting)."""
        return replace(self, rates=dict(rates)) if self.lr_search else self

    def trials(self) -> Iterator[tuple[str, dict[str, Any], dict[Any, list[str]]]]:
        """Each kind and setting without the learning rate, and by each of these the names of the runs that try it.

        These are the short runs of a search, or else the runs of all seeds.
        """
        free = [name for name in self.varied if name != CHOSEN]
        for values in product(*(self.grid[name] for name in free)):
            setting = dict(zip(free, values, strict=True))
            for kind in self.kinds:
                by_rate = {}
                for rate in self.grid.get(CHOSEN, ()):
                    short = [self._short(kind, setting, rate).name] if self.lr_search else []
                    by_rate[rate] = short or self.full_runs(kind, setting, rate)
                yield kind, setting, by_rate

    def full_runs(self, kind: str, setting: Mapping[str, Any], rate: Any) -> list[str]:
        """The names of the runs in full with this setting and learning rate, one for each seed."""
        options = {**setting, CHOSEN: rate}
        return [self._made(kind, {**self.base, **options, "seed": seed}, {}).name for seed in self.seeds]

    def _order(self) -> list[list[str]]:
        return [[CENTRAL]] * (CENTRAL in self.compare) + [[k for k in (FEDERATED, LOCAL_ONLY) if k in self.compare]]

    @staticmethod
    def _once(runs: Iterable[StudyRun]) -> list[StudyRun]:
        found: dict[str, StudyRun] = {}
        for run in runs:
            if found.setdefault(run.name, run).options != run.options:
                raise FedummError(f"Two runs of this study would be called {run.name}: make it two studies.")
        return list(found.values())

    def cells(self) -> list[Cell]:
        """The rows of the table."""
        return [
            Cell(setting, {kind: [self._run(kind, setting, seed).name for seed in self.seeds] for kind in self.kinds})
            for setting in self.settings()
        ]

    def _short(self, kind: str, setting: Mapping[str, Any], rate: Any) -> StudyRun:
        """A run of the search: it draws nothing, which chooses nothing, and no rate gets fewer rounds by patience."""
        options = {**self.base, **setting, "seed": self.seeds[0], CHOSEN: rate, "num_rounds": self.lr_search}
        options.pop("patience", None)
        if T2I.name in TASK_OPTIONS.get(str(options.get("task")), ()):
            options["geneval_prompts"] = 0
        run = self._made(kind, options, {"holdout": self._value("holdout", options)} if kind == CENTRAL else {})
        return replace(run, name=f"search{self.lr_search}-{run.name}", short=True)

    def _run(self, kind: str, setting: Mapping[str, Any], seed: Any) -> StudyRun:
        options = {**self.base, **setting, "seed": seed}
        if self.lr_search:
            options[CHOSEN] = self.rates.get((kind, *setting.values()), TO_CHOOSE)
        return self._made(kind, options, {})

    def _made(self, kind: str, options: Mapping[str, Any], more: Mapping[str, Any]) -> StudyRun:
        """The run of these options, of which its kind may have no use for some; and of ``more``."""
        rounds = self._value("num_rounds", options)
        if kind == CENTRAL:
            epochs = rounds * self._value("local_epochs", options)
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
        return StudyRun(kind, "-".join(parts), {**options, **more}, rounds)

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


def write_study(study: Study, folder: Path) -> None:
    """Write ``study.yaml``, all of the study but its name and plugins."""
    kept = {name: value for name, value in study.to_mapping().items() if name != CODE}
    write_atomically(folder / STUDY, f"{REPEAT}\n{yaml.safe_dump(kept, sort_keys=False)}")


def is_study(folder: Path) -> bool:
    """Whether ``folder`` is one that :func:`write_study` wrote to."""
    file = folder / STUDY
    return file.is_file() and file.read_bytes().startswith(REPEAT.encode())
