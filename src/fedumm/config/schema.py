"""A JSON schema of options, with which editors complete and check a ``config.yaml``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field
from typing import Any

from fedumm.config import validators
from fedumm.config.fields import option_types
from fedumm.config.validators import Check, OneOf

_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}

_BOUNDS: dict[Check, dict[str, Any]] = {
    validators.positive: {"exclusiveMinimum": 0},
    validators.non_negative: {"minimum": 0},
    validators.limit: {"minimum": -1, "not": {"const": 0}},
    validators.probability: {"minimum": 0, "exclusiveMaximum": 1},
    validators.share: {"exclusiveMinimum": 0, "exclusiveMaximum": 1},
    validators.share_or_all: {"exclusiveMinimum": 0, "maximum": 1},
    validators.below_half: {"minimum": 0, "exclusiveMaximum": 0.5},
    validators.seed: {"minimum": 0, "maximum": 2**32 - 1},
}
"""What JSON Schema can say of the checks; a check that is not here says more when the file is read."""


def json_schema(
    options: Iterable[tuple[Field[Any], str]], names: Mapping[str, Sequence[str]], without: str
) -> dict[str, Any]:
    """The schema (draft 2020-12) of a file with some of these options: flags can give the others.

    Args:
        options: fields made by :func:`fedumm.config.option`, with their help.
        names: what an option can be whose names are registered.
        without: the option that no file may hold.
    """
    described = {f.name: (f, text) for f, text in options if f.name != without}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Options of a FedUMM run",
        "type": "object",
        "properties": {name: _property(f, text, names.get(name)) for name, (f, text) in described.items()},
        "additionalProperties": False,
    }


def _property(f: Field[Any], text: str, names: Sequence[str] | None) -> dict[str, Any]:
    check = f.metadata["check"]
    if isinstance(check, OneOf):
        names = check.names
    types = [_TYPES[kind] for kind in option_types(f)]
    if types == ["string"] and names is None:
        types = ["string", "integer"]  # gpu: 0
    return {
        "description": text,
        "type": types if len(types) > 1 else types[0],
        **({} if f.default is MISSING else {"default": f.default}),
        **({} if names is None else {"enum": list(names)}),
        **_BOUNDS.get(check, {}),
    }
