"""``fedumm geneval``: draw many captions, and judge by GenEval's rule."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedumm.cli.adapted import adapted_config, add_model_options
from fedumm.cli.drawing import add_drawing_options, check_drawing, drawer
from fedumm.cli.options import Parser
from fedumm.errors import FedummError
from fedumm.output import check_folder
from fedumm.texts import one_line

if TYPE_CHECKING:
    from fedumm.metrics.geneval import GenEvalResult

DESCRIPTION = """Draw images from prompts and judge them by GenEval's rule. The same command resumes it.

  fedumm geneval --adapter runs/demo/adapter/best --out drawn
  fedumm geneval --adapter runs/demo/adapter/best --out drawn --prompts evaluation_metadata.jsonl"""

_SHAPES_PROMPTS = 120
_MODEL = ("model_backend", "model_name_or_path", "lora_targets", "lora_r", "lora_alpha")
_DRAWING = ("seed", "guidance", "temperature")


def main(argv: list[str], prog: str) -> int:
    """Parse, draw, judge, show."""
    parser = Parser(prog=prog, description=DESCRIPTION)
    add_model_options(parser)
    parser.add_argument("--out", required=True, help="folder for the images and the results")
    parser.add_argument(
        "--prompts", default="shapes", help="GenEval's file, or shapes: captions of the project's own (default: shapes)"
    )
    parser.add_argument(
        "--num_prompts", type=int, default=0, help="how many, from the first (default: all of a file, 120 of shapes)"
    )
    parser.add_argument("--num_images", type=int, default=4, help="images for each prompt (default: 4)")
    add_drawing_options(parser)
    parser.add_argument(
        "--detector", default="", help="exact or mask2former+clip (default: exact if it knows what the prompts name)"
    )
    parser.add_argument(
        "--detector_weights", default="", help="Mask2Former: Hub id or folder (default: the official one)"
    )
    parser.add_argument("--color_weights", default="", help="CLIP: Hub id or folder (default: the official one)")
    args = parser.parse_args(argv)
    check_drawing(args)
    if args.num_images < 1:
        raise FedummError(f"--num_images must be positive, not {args.num_images}.")
    if args.num_prompts < 0:
        raise FedummError(f"--num_prompts must be 0 or more, not {args.num_prompts}.")
    check_folder("out", args.out)
    _run(args)
    return 0


def _run(args: argparse.Namespace) -> None:
    from fedumm.detectors import fitting, get_detector
    from fedumm.generation.folder import DrawnFolder
    from fedumm.generation.prompts import shapes_prompts
    from fedumm.metrics.geneval import read_prompts
    from fedumm.report.console import RunConsole
    from fedumm.training.device import pick_device

    if args.prompts == "shapes":
        prompts = shapes_prompts(args.num_prompts or _SHAPES_PROMPTS)
    else:
        prompts = read_prompts(args.prompts)[: args.num_prompts or None]
    settings = _settings(args)
    detector = get_detector(
        args.detector or fitting(prompts), args.detector_weights, args.color_weights, str(pick_device(args.gpu))
    )
    folder = DrawnFolder(Path(args.out), prompts, args.num_images, settings)
    with RunConsole() as console:
        console.line(f"{len(prompts)} prompts, {args.num_images} image(s) each")
        # Everything may be there already: then no model is needed.
        drawn = folder.draw(
            lambda captions, seeds: drawer(args, console.line)(captions, seeds), args.seed, console.progress
        )
        console.line(f"{drawn} image(s) drawn, {len(folder.samples) - drawn} were there")
        result = folder.judge(detector, console.progress)
    _show(result)
    print(f"Images and verdicts: {args.out} (results.jsonl, summary.json)")


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """What an image depends on."""
    from fedumm.adapters.serialization import encode

    config, state = adapted_config(args)
    digest = hashlib.sha256(encode(state)).hexdigest() if state else ""
    model = {name: getattr(config, name) for name in _MODEL}
    return {"adapter_sha256": digest, **model, **{name: getattr(args, name) for name in _DRAWING}}


def _show(result: GenEvalResult) -> None:
    from rich.table import Table
    from rich.text import Text

    from fedumm.formatting import CATEGORIES, percent
    from fedumm.report.console import Screen

    table = Table("category", "right", "images", title="GenEval", title_justify="left")
    for tag, (share, count) in result.categories.items():
        table.add_row(Text(CATEGORIES.get(tag) or one_line(tag, 60)), percent(share), f"{count:,}")
    table.add_section()
    images = sum(count for _, count in result.categories.values())
    table.add_row("overall (mean of categories)", percent(result.overall), f"{images:,}")
    Screen().print(table)
