"""One option: a dataclass field that is also a command-line flag, with its group, help and bounds."""

from __future__ import annotations

import reprlib
import typing
from dataclasses import MISSING, Field, field
from typing import Any

from fedumm.config.validators import Check
from fedumm.errors import FedummError
from fedumm.texts import one_line

MODEL = "Model"
FEDERATION = "Federated Learning"
AGGREGATION = "Aggregation"
WIRE = "Communication"
PRIVACY = "Privacy"
TRAINING = "Training"
DATA = "Data"
EXECUTION = "Execution"
GROUPS = (MODEL, FEDERATION, AGGREGATION, WIRE, PRIVACY, TRAINING, DATA, EXECUTION)

TOO_LARGE = 2**63
"""Whole numbers from here on are refused: nothing that reads a run's files holds more than 64 bits."""


def option(
    group: str, text: str, default: Any = MISSING, check: Check | None = None, *, several: bool = False,
    travels: bool = True,
) -> Any:  # fmt: skip
    """A dataclass field that is also a command-line flag of the same name; of ``several`` paths one that may repeat.

    ``travels``: whether a job for real sites holds it. What is about one machine, its folders, processors and memory,
    or about how the command is carried out there, does not: each site has a machine of its own.
    """
    metadata = {"group": group, "help": text, "check": check, "several": several, "travels": travels}
    return field(default=default, metadata=metadata)


def field_type(config: type, name: str) -> Any:
    """The Python type of one option: a type, or ``int | str``."""
    return typing.get_type_hints(config)[name]


def check_field(f: Field[Any], value: Any) -> None:
    """Type, size, characters and bounds of an option's value.

    Raises:
        FedummError: the value is none that the option can have.
    """
    kinds = str(f.type).split(" | ")
    if isinstance(value, int) and abs(value) >= TOO_LARGE:
        raise FedummError(f"--{f.name} is a number of more than 64 bits.")
    if type(value).__name__ not in kinds and not (kinds == ["float"] and type(value) is int):
        raise FedummError(f"--{f.name} must be of type {' or '.join(kinds)}, not {shown_value(value)}.")
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= c <= "\udfff" for c in value)):
        raise FedummError(f"--{f.name} holds characters that no name can have: {shown_value(value)}.")
    check: Check | None = f.metadata["check"]
    if check and (problem := check(value)):
        raise FedummError(f"--{f.name} {problem}, not {shown_value(value)}.")


def shown_value(value: Any) -> str:
    """A value for a message: a few lines of YAML can stand for gigabytes."""
    return one_line(repr(value), 200) if isinstance(value, str) else reprlib.repr(value)
