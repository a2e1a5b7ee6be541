"""What the commands that draw have in common."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fedumm.cli.adapted import load_adapted
from fedumm.errors import FedummError

if TYPE_CHECKING:
    from fedumm.generation.folder import Draw


def add_drawing_options(parser: argparse.ArgumentParser) -> None:
    """How images are drawn."""
    parser.add_argument("--seed", type=int, default=42, help="random seed (default: 42)")
    parser.add_argument("--guidance", type=float, help="classifier-free guidance, 1: none (default: the checkpoint's)")
    parser.add_argument("--temperature", type=float, default=1.0, help="below 1: nearer to the likeliest (default: 1)")
    parser.add_argument("--batch_size", type=int, default=16, help="images at a time (default: 16)")


def check_drawing(given: argparse.Namespace) -> None:
    """Raise :class:`FedummError` for values that make no sense."""
    for name in ("temperature", "batch_size"):
        if not 0 < getattr(given, name) < float("inf"):
            raise FedummError(f"--{name} must be positive, not {getattr(given, name)}.")
    if given.guidance is not None and not 0 <= given.guidance < float("inf"):
        raise FedummError(f"--guidance must be 0 or more, not {given.guidance}.")
    if given.seed < 0:
        raise FedummError(f"--seed must be 0 or more, not {given.seed}.")


def drawer(given: argparse.Namespace) -> Draw:
    """The model that the options name, as a function from captions and seeds to images.

    Raises:
        FedummError: its backend can't draw.
    """
    from fedumm.backends.protocol import DrawsImages

    backbone = load_adapted(given)
    backend = backbone.backend
    if not isinstance(backend, DrawsImages):
        raise FedummError("The backend of this model has no method 'draw': it can't draw.")

    return lambda captions, seeds: backend.draw(
        backbone.model, backbone.processor, captions, seeds, backbone.device,
        guidance=given.guidance, temperature=given.temperature,
    )  # fmt: skip
