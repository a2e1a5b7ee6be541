"""``fedumm partition``: a split as a table and a figure, without training."""

from __future__ import annotations

import sys
from pathlib import Path

from fedumm.cli.options import Joined, Parser, with_absolute_paths
from fedumm.errors import FedummError
from fedumm.output import check_cache, check_file
from fedumm.texts import one_line

DESCRIPTION = """Show how a data set would be split among clients, without loading a model.

  fedumm partition --dataset easy_vqa --num_clients 8 --dirichlet_alpha 0.1 --figure split.png"""

FORMATS = (".png", ".pdf", ".svg")


def main(argv: list[str], prog: str) -> int:
    """Parse, split, show."""
    parser = Parser(prog=prog, description=DESCRIPTION)
    parser.add_argument("--dataset", required=True, help="easy_vqa, vqav2, shapes, a Hub id or a folder")
    parser.add_argument("--num_clients", type=int, default=2, help="clients (default: 2)")
    parser.add_argument("--dirichlet_alpha", type=float, default=0.0, help="0 = IID, else 0.1 / 0.5 / 1.0 (default: 0)")
    parser.add_argument("--partition_by", default="answer", help="column whose values are skewed (default: answer)")
    parser.add_argument("--show", default="answer_type", help="column to count (default: answer_type)")
    parser.add_argument("--task", default="vqa", help="vqa, t2i or unified (default: vqa)")
    parser.add_argument("--partition", default="", help="task:SHARE: clients with one task only (default: none)")
    parser.add_argument("--keep_images_whole", action="store_true", help="all questions on an image to one client")
    parser.add_argument("--holdout", type=float, default=0.1, help="share of images held out (default: 0.1)")
    parser.add_argument("--max_train_samples", type=int, default=-1, help="limit (default: -1 = all)")
    parser.add_argument(
        "--image_root", action=Joined, default="", help="folder of image files besides the data's own; may be repeated"
    )
    parser.add_argument("--allow_remote_images", action="store_true", help="fetch images that the data name by address")
    parser.add_argument("--data_path", default="", help="Hugging Face cache directory")
    parser.add_argument("--seed", type=int, default=42, help="random seed (default: 42)")
    parser.add_argument("--figure", default="partition.png", help="file of the figure (default: partition.png)")
    args = parser.parse_args(argv)
    return _show(args)


def _show(args: object) -> int:
    """The options are those of a federated run: let its config check them."""
    from fedumm.config import FederateConfig

    given = vars(args)
    figure, show = Path(given.pop("figure")), given.pop("show")
    config = with_absolute_paths(FederateConfig(model_backend="januspro", max_eval_samples=2, **given))
    if figure.suffix not in FORMATS:
        raise FedummError(f"--figure {figure}: the name must end in {', '.join(FORMATS)}.")
    check_file("figure", figure)
    if config.data_path:
        check_cache("data_path", config.data_path)

    from rich.markup import escape
    from rich.table import Table

    from fedumm.federation.assignment import client_names
    from fedumm.report.console import Screen
    from fedumm.report.figures import save_partition_figure
    from fedumm.training.data import column_labels, label_column, load_splits, partition_for

    rows = load_splits(config).train
    partition, _ = partition_for(config, rows, client_names(config.num_clients))
    shown = column_labels(rows, label_column(rows, show, "--show"))
    labels, counts = save_partition_figure(partition.counts(shown), figure)
    table = Table(
        "client",
        *(escape(one_line(label, 60)) for label in labels),
        "training",
        "held out",
        title=f"{partition.method}, by {show}",
        title_justify="left",
    )
    for (name, share), row in zip(partition.shares.items(), counts, strict=True):
        table.add_row(name, *(f"{n:,}" for n in row), f"{len(share.train):,}", f"{len(share.heldout):,}")
    # In a file no line is too long.
    console = Screen(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    console.print(f"Figure: {figure}", markup=False)
    return 0
