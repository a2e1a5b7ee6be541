"""The command line of ``fedumm sweep``: a run's own options, some of which take several values."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field
from typing import Any

from fedumm.cli.options import Joined, Parser, number_or_text
from fedumm.config import GROUPS, FederateConfig, option_types
from fedumm.config.validators import OneOf
from fedumm.errors import FedummError
from fedumm.run_options import described_options
from fedumm.studies.study import NOT_OF_A_STUDY
from fedumm.studies.study_run import COLUMNS

DESCRIPTION = """A study: a run for each combination of the options that have several values, in one process, beside its
baselines; then table.md, table.csv, table.tex and figures in runs/NAME. What is finished is skipped, what was cut
is resumed: the same command goes on with a study.

  fedumm sweep --model_backend blip_vqa --model_name_or_path tiny --dataset easy_vqa --num_clients 2,4,8 \\
      --dirichlet_alpha 0.1,0.5,1.0 --seed 1,2,3 --lr 1e-3 --name first
  fedumm sweep study.yaml

Options that are numbers or names of a fixed list take several values here, separated by commas. In a study's file,
all options do, as lists ([0.1, 0.5]); flags override the file. Other texts, such as --lora_r 16,site-1=4, mean with a
comma what they mean to a single run."""

_NAMES = {"model_backend", "aggregator", "wire", "wire_up", "wire_down", "answer_metric", "partition"}
"""Options whose values are registered names, in which there is no comma."""

_OWN = {
    "compare": ("KIND,...", f"what to compare: {', '.join(COLUMNS)} (default: all)"),
    "name": ("STUDY", "folder of the study: runs/STUDY, or a path (default: the name of its file)"),
    "collect": ("STUDY", "make the tables and figures of runs/STUDY, or a path, of what is finished, and run nothing"),
    "lr_search": (
        "ROUNDS",
        "choose the learning rate of each setting among those of --lr by held-out data, after short runs of so many "
        "rounds with the first seed; only the chosen one runs in full (0: all do)",
    ),
    "run": ("N", "do only the run that --dry_run lists as number N"),
}


def parser_of(prog: str) -> Parser:
    """The parser of ``fedumm sweep``; a flag that is not given is not in what is parsed."""
    parser = Parser(prog=prog, description=DESCRIPTION, usage="%(prog)s [STUDY.yaml] [OPTIONS]")
    parser.add_argument("file", nargs="?", default=argparse.SUPPRESS, metavar="STUDY.yaml", help="options by name")
    own = parser.add_argument_group("Study")
    for name, (shown, text) in _OWN.items():
        kind = int if name in ("run", "lr_search") else str
        own.add_argument(f"--{name}", metavar=shown, type=kind, default=argparse.SUPPRESS, help=text)
    for name, text in (
        ("dry_run", "list the runs, check their options, and stop"),
        ("slurm", "write an array job (slurm.sh) with one task for each run, and stop"),
    ):
        own.add_argument(f"--{name}", action="store_const", const=True, default=argparse.SUPPRESS, help=text)
    groups = {name: parser.add_argument_group(name) for name in GROUPS}
    for f, text in described_options(FederateConfig):
        if f.name not in {*_OWN, *NOT_OF_A_STUDY, "slurm"}:
            _add(groups[f.metadata["group"]], f, text.replace("%", "%%"))
    return parser


def _add(group: argparse._ArgumentGroup, f: Field[Any], text: str) -> None:
    flag, kind = f"--{f.name}", option_types(f)[0]
    if kind is bool:
        group.add_argument(flag, action="store_const", const=True, default=argparse.SUPPRESS, help=text)
        return
    default = "" if f.default is MISSING else f" (default: {f.default!r})".replace("'", '"')
    shown = f"{kind.__name__.upper()}{',...' if takes_list(f) else ''}"
    read: Callable[[str], Any] = _reader(f) if takes_list(f) else number_or_text if len(option_types(f)) > 1 else str
    action = Joined if f.metadata["several"] else "store"
    group.add_argument(flag, action=action, type=read, metavar=shown, default=argparse.SUPPRESS, help=text + default)


def takes_list(f: Field[Any]) -> bool:
    """Whether the option takes several values on the command line, where a comma must mean nothing else."""
    return option_types(f) in ((int,), (float,)) or isinstance(f.metadata["check"], OneOf) or f.name in _NAMES


def _reader(f: Field[Any]) -> Callable[[str], Any]:
    """Reads one value, or a list of them."""
    kind = option_types(f)[0]

    def read(text: str) -> Any:
        parts = [part.strip() for part in text.split(",")]
        try:
            values = [kind(part) for part in parts]
        except ValueError:
            raise FedummError(
                f"--{f.name} takes numbers, one or several separated by commas ({kind.__name__}), not {text!r}."
            ) from None
        return values if len(values) > 1 else values[0]

    return read


def check_ranks(given: Mapping[str, Any]) -> None:
    """Raise :class:`FedummError` for several ranks on the command line, which look like those of clients."""
    for name in ("lora_r", "lora_alpha"):
        text = str(given.get(name, ""))
        if "," in text and "=" not in text:
            raise FedummError(
                f"--{name} {text}: here a comma parts clients (16,site-1=4). For several runs, write a list into a "
                f"study's file: {name}: [{text}]"
            )
