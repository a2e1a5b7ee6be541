"""The page: one file without any library, which asks nobody but this program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fedumm.play.cast import Cast
from fedumm.texts import one_line

FIRST = 4
"""Adapters that are asked unless the reader chooses others."""


@dataclass(frozen=True)
class Suggestion:
    """A picture with a question to start from, or a caption to draw.

    Attributes:
        text: the question or caption.
        said: what people answered.
        picture: a ``data:`` address; empty of a caption.
    """

    text: str
    said: str = ""
    picture: str = field(default="", repr=False)


def render(
    cast: Cast, title: str, facts: Sequence[str], notes: Sequence[str], suggestions: Sequence[Suggestion], nonce: str
) -> str:
    """The page as a text.

    Args:
        title: the run's name.
        facts: on the model.
        notes: what is missing, and why.
        nonce: what the page's own script and style are allowed by.
    """
    environment = Environment(
        loader=PackageLoader("fedumm.play", "html"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=_shown,
    )  # fmt: skip
    return environment.get_template("play.html").render(
        cast=cast,
        roles=[(role, place < FIRST) for place, role in enumerate(cast.roles.values())],
        title=title,
        facts=facts,
        notes=notes,
        pictures=[one for one in suggestions if one.picture],
        captions=[one for one in suggestions if not one.picture],
        nonce=nonce,
    )


def _shown(value: Any) -> Any:
    """What is somebody else's on one line; the ``data:`` addresses of pictures are ours."""
    if isinstance(value, Markup) or not isinstance(value, str) or value.startswith("data:image/"):
        return value
    return one_line(value, 2000)
