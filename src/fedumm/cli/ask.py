"""``fedumm ask``: one question about one image."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fedumm.backends.answers import GENERATE, RANK, read_answers
from fedumm.cli.adapted import adapted_config, add_model_options, load_adapted
from fedumm.cli.options import Parser
from fedumm.config import validators
from fedumm.errors import FedummError
from fedumm.tasks import I2T
from fedumm.texts import one_line, plain_lines

if TYPE_CHECKING:
    from PIL.Image import Image

DESCRIPTION = """Ask a question about an image; an adapter that has learnt texts of images (--task i2t) needs none.

  fedumm ask shape.png "what color is the shape?" --adapter runs/demo/adapter/best
  fedumm ask xray.png --adapter runs/reports/adapter/best
  fedumm ask before.png "what has changed?" --more_images after.png --adapter runs/changes/adapter/best"""


def main(argv: list[str], prog: str) -> int:
    """Parse, load, answer."""
    parser = Parser(prog=prog, usage="%(prog)s IMAGE [QUESTION] [OPTIONS]", description=DESCRIPTION)
    parser.add_argument("image", help="image file")
    parser.add_argument("question", nargs="?", default=None, help="question, in quotes")
    add_model_options(parser)
    parser.add_argument(
        "--more_images", nargs="+", default=[], metavar="IMAGE", help="further images that the question is about"
    )
    parser.add_argument("--answers", default="", help="file of known answers, one a line: how answers are written")
    parser.add_argument(
        "--answer_mode",
        choices=(GENERATE, RANK),
        default="",
        help="rank: the likeliest of --answers, not a generated one",
    )
    parser.add_argument("--prompt", default="", help="words around the question (default: as the adapter was trained)")
    args = parser.parse_args(argv)
    files = [args.image, *args.more_images]
    for file in files:
        if not os.path.isfile(file):
            hint = " The question comes before --more_images." if file in args.more_images and " " in file else ""
            raise FedummError(f"Image not found: {one_line(file, 200)}.{hint}")
    if args.question is not None and not args.question.strip():
        raise FedummError("The question is empty.")
    if problem := validators.prompt(args.prompt):
        raise FedummError(f"--prompt {problem}.")
    if args.answer_mode == RANK and not args.answers:
        raise FedummError("--answer_mode rank needs the answers to choose from: --answers FILE.")
    if args.answers:
        read_answers(args.answers)

    from fedumm.backends.protocol import AnswersQuestions, ReadsSeveralImages

    images = [_opened(file) for file in files]
    if args.question is None and I2T.name not in adapted_config(args)[0].tasks:
        raise FedummError("Which question? Without one, only an adapter of --task i2t says something of an image.")
    backbone = load_adapted(args)
    if not isinstance(backbone.backend, AnswersQuestions):
        raise FedummError("The backend of this model can't answer: it has no method 'answer'.")
    if args.more_images and not isinstance(backbone.backend, ReadsSeveralImages):
        raise FedummError("--more_images: the backend of this model reads one image.")
    shown = images if args.more_images else images[0]
    answer = backbone.backend.answer(backbone.model, backbone.processor, shown, args.question or "", backbone.device)
    print(plain_lines(answer))
    return 0


def _opened(file: str) -> Image:
    from fedumm.images import ImageError, open_image

    try:
        return open_image(file)
    except ImageError as error:
        raise FedummError(f"{file} can't be read as an image: {one_line(error)}") from error
