"""``fedumm draw``: images of captions."""

from __future__ import annotations

from pathlib import Path

from fedumm.cli.adapted import add_model_options
from fedumm.cli.drawing import add_drawing_options, check_drawing, drawer
from fedumm.cli.options import Parser
from fedumm.errors import FedummError
from fedumm.files import replacing
from fedumm.output import check_file

DESCRIPTION = """Draw images from captions.

  fedumm draw "a red circle left of a blue square" --adapter runs/demo/adapter/best --num 4"""


def main(argv: list[str], prog: str) -> int:
    """Parse, load, draw, save."""
    parser = Parser(prog=prog, usage="%(prog)s CAPTION [CAPTION ...] [OPTIONS]", description=DESCRIPTION)
    parser.add_argument("captions", nargs="+", metavar="CAPTION", help="what to draw, in quotes")
    add_model_options(parser)
    parser.add_argument(
        "--out", default="drawing.png", help="PNG file; several images make a grid (default: drawing.png)"
    )
    parser.add_argument("--num", type=int, default=1, help="images for each caption (default: 1)")
    add_drawing_options(parser)
    args = parser.parse_args(argv)
    out = Path(args.out)
    check_drawing(args)
    if args.num < 1:
        raise FedummError(f"--num must be positive, not {args.num}.")
    if out.suffix.lower() != ".png":
        raise FedummError(f"--out {out}: the name must end in .png.")
    check_file("out", out)
    if not all(caption.strip() for caption in args.captions):
        raise FedummError("A caption is empty: say what to draw.")

    from PIL import Image

    from fedumm.generation.folder import Sample
    from fedumm.generation.grid import grid
    from fedumm.report.console import RunConsole

    console = RunConsole()
    draw = drawer(args, console.line)
    samples = [Sample(caption, number) for caption in range(len(args.captions)) for number in range(args.num)]
    images: list[Image.Image] = []
    with console:
        console.progress("drawing", 0, len(samples))
        for image in draw([args.captions[s.prompt] for s in samples], [s.seed(args.seed) for s in samples]):
            images.append(image)
            console.progress("drawing", len(images), len(samples))
    # A row for each caption, unless there is one only.
    sheet = grid(images, args.num if len(args.captions) > 1 else 0)
    try:
        with replacing(out) as draft:
            sheet.save(draft, "PNG")
    except OSError as error:
        raise FedummError(f"--out {out} can't be written: {error}") from error
    print(f"{len(images)} image(s): {out}")
    return 0
