"""What the commands that draw have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from fedumm.cli.adapted import load_adapted
from fedumm.errors import FedummError

if TYPE_CHECKING:
    from fedumm.generation.folder import Draw


def add_drawing_options(parser: argparse.ArgumentParser) -> None:
    """How images are drawn."""
    parser.add_argument("--seed", type=int, default=42, help="random seed (default: 42)")
    parser.add_argument("--guidance", type=float, help="classifier-free guidance, 1: none (default: the checkpoint's)")
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="below 1: closer to the most likely (default: 1)"
    )
    parser.add_argument(
        "--batch_size", type=int, default=0, help="images at a time (default: 0, as many as fit, at most 16)"
    )


def check_drawing(given: argparse.Namespace) -> None:
    """Raise :class:`FedummError` for values that make no sense."""
    if not 0 < given.temperature < float("inf"):
        raise FedummError(f"--temperature must be positive, not {given.temperature}.")
    if given.guidance is not None and not 0 <= given.guidance < float("inf"):
        raise FedummError(f"--guidance must be 0 or more, not {given.guidance}.")
    for name in ("seed", "batch_size"):
        if getattr(given, name) < 0:
            raise FedummError(f"--{name} must be 0 or more, not {getattr(given, name)}.")


def drawer(given: argparse.Namespace, say: Callable[[str], None]) -> Draw:
    """The model that the options name, as a function from captions and seeds to images.

    Args:
        say: is given lines for the user.

    Raises:
        FedummError: its backend can't draw.
    """
    from fedumm.backends.protocol import DrawsImages
    from fedumm.training.generation_eval import drawn

    backbone = load_adapted(given)
    backbone.say = say
    if not isinstance(backbone.backend, DrawsImages):
        raise FedummError("The backend of this model can't draw: it has no method 'draw'.")

    return lambda captions, seeds: drawn(
        backbone, captions, seeds, given.batch_size, "--batch_size",
        guidance=given.guidance, temperature=given.temperature,
    )  # fmt: skip
