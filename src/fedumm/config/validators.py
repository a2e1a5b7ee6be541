"""What the value of an option may be: functions that say what is wrong with one, or None."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fedumm.config.columns import column_names
from fedumm.config.per_client import ByClient
from fedumm.errors import FedummError

Check = Callable[[Any], str | None]


def positive(value: float) -> str | None:
    """Above 0 and finite."""
    return None if value > 0 and math.isfinite(value) else "must be positive"


def non_negative(value: float) -> str | None:
    """0 or more, and finite."""
    return None if value >= 0 and math.isfinite(value) else "must be 0 or more"


def limit(value: int) -> str | None:
    """A number of samples, or -1 for all."""
    return None if value == -1 or value > 0 else "must be -1 (all) or positive"


def probability(value: float) -> str | None:
    """In [0, 1)."""
    return None if 0 <= value < 1 else "must be at least 0 and below 1"


def share(value: float) -> str | None:
    """In (0, 1)."""
    return None if 0 < value < 1 else "must be above 0 and below 1"


def share_or_all(value: float) -> str | None:
    """In (0, 1]."""
    return None if 0 < value <= 1 else "must be above 0 and at most 1"


def below_half(value: float) -> str | None:
    """In [0, 0.5)."""
    return None if 0 <= value < 0.5 else "must be at least 0 and below 0.5"


def seed(value: int) -> str | None:
    """32 bits."""
    return None if 0 <= value < 2**32 else "must be between 0 and 2^32 - 1"


@dataclass(frozen=True)
class OneOf:
    """One of ``names``."""

    names: tuple[str, ...]

    def __call__(self, value: Any) -> str | None:
        """What is wrong with ``value``, or None."""
        return None if value in self.names else f"must be one of {', '.join(self.names)}"


def one_of(*names: str) -> OneOf:
    """One of ``names``."""
    return OneOf(names)


def mix(value: str) -> str | None:
    """Two positive numbers with a colon between."""
    return None if re.fullmatch(r"[1-9]\d{0,3}:[1-9]\d{0,3}", value) else "must be two positive numbers, such as 5:4"


def partition(value: str) -> str | None:
    """Empty, ``own``, ``task:SHARE``, or the form of a partitioner's name, which may have an argument."""
    name, colon, argument = value.partition(":")
    try:
        good = 0 < float(argument) <= 1 if name == "task" else not (name == "own" and colon)
    except ValueError:
        good = False
    form = (
        "must be empty, own, task:SHARE with a SHARE of clients above 0 and at most 1, such as task:0.5, or the name "
        "of a partitioner"
    )
    return None if not value or (good and re.fullmatch(r"[A-Za-z]\w*", name)) else form


def by_client(value: int | str) -> str | None:
    """A positive number, or one for each client: ``16,site-1=4``."""
    try:
        ByClient(value)
    except FedummError as error:
        return str(error)
    return None


def report_samples(value: int | str) -> str | None:
    """``auto``, ``off``, or 0 to 1,000."""
    good = value in ("auto", "off") if isinstance(value, str) else 0 <= value <= 1000
    return None if good else "must be auto, off, or a number from 0 to 1,000"


def trackers(value: str) -> str | None:
    """Names with commas between, or ``none`` alone."""
    names = [name.strip() for name in value.split(",")]
    if not all(re.fullmatch(r"[A-Za-z][\w-]*", name) for name in names) or ("none" in names and len(names) > 1):
        return "must be none, or names of trackers with commas between, such as tensorboard,mlflow"
    return None


LONGEST_PROMPT = 4096
"""Characters."""


def prompt(value: str) -> str | None:
    """Printable lines, with at most one place for the question."""
    if value and not value.strip():
        return "must not be blank: 'none' adds nothing to a question"
    if value.count("{question}") > 1:
        return "must name the place of {question} once"
    if len(value) > LONGEST_PROMPT or not value.replace("\n", "").isprintable():
        return f"must be a printable text of at most {LONGEST_PROMPT:,} characters"
    return None


def columns(value: str) -> str | None:
    """Pairs of names: ``image=jpg,caption=txt``."""
    try:
        column_names(value)
    except FedummError as error:
        return str(error)
    return None


def pattern(value: str) -> str | None:
    """A regular expression of at most 500 characters."""
    if not 0 < len(value) <= 500:
        return "must have 1 to 500 characters"
    try:
        re.compile(value)
    except re.error as error:
        return f"is no regular expression: {error}"
    return None
