"""``fedumm partition``: a split as a table and a figure, without training."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedumm.cli.options import Parser, add_option, check_caches, check_partition, with_absolute_paths
from fedumm.config import FederateConfig, option_fields
from fedumm.errors import FedummError
from fedumm.output import check_file
from fedumm.run_options import from_mapping
from fedumm.texts import one_line

if TYPE_CHECKING:
    from rich.table import Table

    from fedumm.data import DataSplits
    from fedumm.data.partition.split import Partition

DESCRIPTION = """Show how a data set would be split among clients, without loading a model.

  fedumm partition --dataset easy_vqa --num_clients 8 --dirichlet_alpha 0.1 --figure split.png"""

SHARED = {
    "dataset", "num_clients", "dirichlet_alpha", "partition_by", "partition", "task", "keep_images_whole", "holdout",
    "max_train_samples", "columns",
    "image_root", "allow_remote_images", "eval_fraction", "language", "drop_overlap", "skip_bad",
    "data_path", "seed", "plugin",
}  # fmt: skip
"""Options of a federated run that say how its rows are split."""

FORMATS = (".png", ".pdf", ".svg")


def main(argv: list[str], prog: str) -> int:
    """Parse, split, show."""
    parser = Parser(prog=prog, description=DESCRIPTION)
    for f in option_fields(FederateConfig):
        if f.name in SHARED:
            add_option(parser, f, required=f.name == "dataset")
    counted = "column whose values are counted: answer, answer_type, question ... (default: answer_type)"
    parser.add_argument("--show", default="answer_type", help=counted)
    parser.add_argument("--figure", default="partition.png", help="file of the figure (default: partition.png)")
    args = parser.parse_args(argv)
    return _show(args)


def checked(given: Mapping[str, Any]) -> FederateConfig:
    """The config of a run with the options ``given``: its checks are those of a federated run.

    Raises:
        FedummError: an option is invalid, or a folder can't be used.
    """
    config = with_absolute_paths(
        from_mapping(FederateConfig, {"model_backend": "januspro", "max_eval_samples": 2, **given})
    )
    check_partition(config)
    check_caches(config)
    return config


def split(config: FederateConfig) -> tuple[DataSplits, Partition]:
    """The data, and which client has which training rows."""
    from fedumm.federation.assignment import client_names
    from fedumm.training.data import load_splits, partition_for

    splits = load_splits(config)
    return splits, partition_for(config, splits.train, client_names(config.num_clients))[0]


def _table(cells: list[list[str]], title: str, width: int) -> Table:
    """``cells``, of which the first row are headings, or rows as columns where only these fit; nothing is cut."""
    from rich.cells import cell_len
    from rich.table import Column, Table

    def needed(rows: list[list[str]]) -> int:
        return sum(max(map(cell_len, column)) + 3 for column in zip(*rows, strict=True)) + 1

    turned = [list(column) for column in zip(*cells, strict=True)]
    head, *rows = turned if width < needed(cells) > needed(turned) else cells
    table = Table(*(Column(name, overflow="fold") for name in head), title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    return table


def _show(args: argparse.Namespace) -> int:
    given = vars(args)
    figure, show = Path(given.pop("figure")), given.pop("show")
    if figure.suffix not in FORMATS:
        raise FedummError(f"--figure {figure}: the name must end in {', '.join(FORMATS)}.")
    config = checked(given)
    check_file("figure", figure)

    from fedumm.report.console import Screen
    from fedumm.report.figures import save_partition_figure
    from fedumm.training.data import column_labels, label_column
    from fedumm.training.data_words import row_lines

    splits, partition = split(config)
    rows = splits.train
    shown = column_labels(rows, label_column(rows, show, "--show"))
    labels, counts = save_partition_figure(partition.counts(shown), figure)
    skewed = f", skewed by {config.partition_by}" if partition.method == "dirichlet" else ""
    cells = [["client", *(one_line(label, 60) for label in labels), "training", "held out"]]
    for (name, share), row in zip(partition.shares.items(), counts, strict=True):
        cells.append([name, *(f"{n:,}" for n in (*row, len(share.train), len(share.heldout)))])
    # In a file no line is too long.
    console = Screen(width=None if sys.stdout.isatty() else 160)
    title = f"Split: {partition.method}{skewed}. Counted: training samples by {show}"
    console.print(_table(cells, title, console.width))
    for line in row_lines(splits.reports[0]):
        console.print(line, soft_wrap=True)
    console.print(f"Figure: {figure}", markup=False)
    return 0
