"""``fedumm check``: what a run would make of a data set, without a run."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from fedumm.cli.options import Parser, add_option, check_caches, check_model, with_absolute_paths
from fedumm.config import FederateConfig, option_fields
from fedumm.run_options import from_mapping
from fedumm.tasks import VQA
from fedumm.texts import one_line

if TYPE_CHECKING:
    from rich.table import Table

    from fedumm.training.data_check import DataReport, SplitFacts

DESCRIPTION = """Look at a data set as a run would: which column is what, bad rows and images, images in both splits,
and answers that the model can't say. Every image is opened; nothing is written.

  fedumm check DATA --model_backend blip_vqa --model_name_or_path tiny"""

SHARED = {
    "model_backend", "model_name_or_path", "task", "prompt", "max_q_len", "max_a_len", "answer_metric", "answers",
    "answer_mode", "train_answers", "max_train_samples",
    "max_eval_samples", "columns", "image_root", "allow_remote_images", "eval_fraction", "language", "drop_overlap",
    "skip_bad", "data_path", "plugin",
}  # fmt: skip
"""Options of a run that say how its data are read and scored."""

_ANY = "januspro"
"""Whose columns are looked for where no model is named: those of every task."""

_MOST_TYPES = 6


def main(argv: list[str], prog: str) -> int:
    """Parse, look, tell."""
    parser = Parser(prog=prog, usage="%(prog)s DATA [OPTIONS]", description=DESCRIPTION)
    parser.add_argument("dataset", help="a folder, a file, a Hub id, easy_vqa, shapes or vqav2")
    for f in option_fields(FederateConfig):
        if f.name in SHARED:
            add_option(parser, f, "backend whose tokenizer is asked (default: none is)" * (f.name == "model_backend"))
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")
    given = vars(parser.parse_args(argv))
    as_json = given.pop("json")
    asked = "model_backend" in given
    config = with_absolute_paths(from_mapping(FederateConfig, {"model_backend": _ANY, **given}))
    if asked:
        check_model(config)
    check_caches(config)

    from fedumm.report.console import RunConsole, Screen
    from fedumm.training.data_check import check_data, data_to_check
    from fedumm.training.data_words import warnings

    with RunConsole(Screen(stderr=True)) as progress:
        splits = data_to_check(config, progress.progress, closely=True)
        report = check_data(config, splits, progress.progress, closely=True, ask_model=asked)
    if as_json:
        print(json.dumps(report.to_mapping(), indent=2))
        return 0
    screen = Screen()
    screen.print(_table(report))
    for line in warnings(report, config):
        screen.print(f"! {line}", style="yellow", soft_wrap=True)
    if not asked:
        model = f"--model_backend {_able(config)} --model_name_or_path tiny"
        screen.print(f"Name a model to see how texts fit it: {model}", soft_wrap=True)
    screen.print(f"Train on it: {_command(given, _able(config))}", soft_wrap=True)
    return 0


def _table(report: DataReport) -> Table:
    from rich.table import Table

    table = Table("", "training", "evaluation", title=one_line(report.dataset, 200), title_justify="left")
    for name, values in _rows(report):
        table.add_row(name, *map(one_line, values))
    return table


def _rows(report: DataReport) -> list[tuple[str, list[str]]]:
    splits = report.train, report.eval
    rows: list[tuple[str, list[str]]] = [
        ("rows", [f"{split.rows.given:,}" if split.rows.given else "split off" for split in splits]),
        ("samples", [f"{split.rows.samples:,}" for split in splits]),
    ]
    if report.train.images:
        if any(split.images_each for split in splits):
            each = [", ".join(f"{n:,} x {count}" for count, n in split.images_each.items()) for split in splits]
            rows += [("images a sample", each), ("groups that share images", [f"{split.images:,}" for split in splits])]
        else:
            rows.append(("images", [f"{split.images:,}" for split in splits]))
        rows += [
            ("told apart by", [split.rows.identity for split in splits]),
            ("different contents", [f"{split.contents:,}" for split in splits]),
            ("kinds", [", ".join(f"{kind} {count:,}" for kind, count in split.kinds.items()) for split in splits]),
            ("pixels", [split.pixels for split in splits]),
        ]
    rows.append(("types", [_types(split) for split in splits]))
    if report.eval.references:
        counts = [", ".join(f"{n:,} x {count}" for count, n in split.references.items()) for split in splits]
        best = report.eval.best_score
        rows.append(("texts an image" if best is None else "answers a question", counts))
        if best is not None:
            rows.append(("best possible score", ["", f"{100 * best:.1f} %"]))
    return rows


def _types(split: SplitFacts) -> str:
    found = sorted(split.types.items(), key=lambda entry: -entry[1])
    more = [f"and {len(found) - _MOST_TYPES:,} more"] if len(found) > _MOST_TYPES else []
    return ", ".join([f"{name} {count:,}" for name, count in found[:_MOST_TYPES]] + more)


def _able(config: FederateConfig) -> str:
    """A backend with a small model for the task."""
    return "blip_vqa" if config.tasks == (VQA.name,) else _ANY


def _command(given: dict[str, Any], backend: str) -> str:
    """What trains on the data, with the options of this command."""
    model = {"model_backend": backend, "model_name_or_path": "tiny"}
    words = ["fedumm", "federate"]
    for name, value in {**model, **given}.items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return shlex.join([*words, "--num_clients", "4", "--simulator"])
