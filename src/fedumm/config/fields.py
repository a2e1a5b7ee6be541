"""One option: a dataclass field that is also a command-line flag, with its group, help and bounds."""

from __future__ import annotations

import reprlib
from dataclasses import MISSING, Field, dataclass, field, fields
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


_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (float,),
    "str": (str,),
    "bool": (bool,),
    "int | str": (int, str),
}
"""What an option can be, as its dataclass writes it."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options that are checked when they are made: a frozen dataclass whose fields are made by :func:`option`.

    Raises:
        FedummError: a value has another type, is out of bounds, or holds characters that no name can have.
    """

    def __post_init__(self) -> None:
        for f in option_fields(type(self)):
            check_field(f, getattr(self, f.name))


def option_fields(config: type) -> list[Field[Any]]:
    """The fields of ``config`` that are options, in order."""
    return [f for f in fields(config) if "group" in f.metadata]


def option_types(f: Field[Any]) -> tuple[type, ...]:
    """The types that a value of the option can have: one of int, float, str and bool, or int and str.

    Raises:
        FedummError: its dataclass says another one.
    """
    name = f.type.__name__ if isinstance(f.type, type) else str(f.type)
    if name not in _TYPES:
        raise FedummError(f"The option {f.name} is of type {name}, and must be one of {', '.join(_TYPES)}.")
    return _TYPES[name]


def coerced(f: Field[Any], value: Any) -> Any:
    """Take what YAML 1.1 reads otherwise as what was meant: ``lr: 5e-5`` (a string), ``gpu: 0`` (a number)."""
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) >= TOO_LARGE):
        return value
    if option_types(f) == (str,) and isinstance(value, int):
        return str(value)
    if option_types(f) == (float,) and isinstance(value, str | int):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def check_field(f: Field[Any], value: Any) -> None:
    """Type, size, characters and bounds of an option's value.

    Raises:
        FedummError: the value is none that the option can have.
    """
    types = option_types(f)
    if isinstance(value, int) and abs(value) >= TOO_LARGE:
        raise FedummError(f"--{f.name} is a number of more than 64 bits.")
    if type(value) not in types and not (types == (float,) and type(value) is int):
        named = " or ".join(kind.__name__ for kind in types)
        raise FedummError(f"--{f.name} must be of type {named}, not {shown_value(value)}.")
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= c <= "\udfff" for c in value)):
        raise FedummError(f"--{f.name} holds characters that no name can have: {shown_value(value)}.")
    check: Check | None = f.metadata["check"]
    if check and (problem := check(value)):
        raise FedummError(f"--{f.name} {problem}, not {shown_value(value)}.")


def shown_value(value: Any) -> str:
    """A value for a message: a few lines of YAML can stand for gigabytes."""
    return one_line(repr(value), 200) if isinstance(value, str) else reprlib.repr(value)
