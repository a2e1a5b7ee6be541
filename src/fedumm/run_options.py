"""A run's options as one mapping: its config's own, and those of the aggregator that it chooses, side by side.

This is where :mod:`fedumm.config` meets the registries: a name is looked up here, before any work.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import Field, asdict
from typing import Any

from fedumm.aggregation.registry import available_aggregators, get_aggregator, method_options
from fedumm.config import EXECUTION, AnyConfig, FederateConfig, RunConfig, build, option_fields
from fedumm.config.fields import check_field, coerced, shown_value
from fedumm.errors import FedummError, did_you_mean
from fedumm.texts import one_line


def known_options(config: type[RunConfig]) -> dict[str, Field[Any]]:
    """Every option that a run of ``config`` can have, by name: those of all aggregators that are known, too."""
    own = {f.name: f for f in option_fields(config)}
    return own | ({name: o.field for name, o in method_options().items()} if issubclass(config, FederateConfig) else {})


def described_options(config: type[RunConfig], chosen: str = "") -> list[tuple[Field[Any], str]]:
    """The same with their help, which says what names there are, and whose an aggregator's own option is.

    Args:
        chosen: an aggregator of an installed package, whose options are wanted too.
    """
    own = [(f, f.metadata["help"]) for f in option_fields(config)]
    if not issubclass(config, FederateConfig):
        return own
    names = {"aggregator": f": {' | '.join(available_aggregators())}"}
    more = [(f, f"{', '.join(of)}: {f.metadata['help']}") for f, of in method_options(chosen).values()]
    return [*((f, text + names.get(f.name, "")) for f, text in own), *more]


def from_mapping(config: type[AnyConfig], values: Mapping[str, Any], origin: str = "config") -> AnyConfig:
    """Build a config.

    Raises:
        FedummError: there is no such aggregator or option (the message has the nearest name), an option is missing or
            has a value that it can't have, or it is one that only another aggregator has.
    """
    own = {f.name: f for f in option_fields(config)}
    if not issubclass(config, FederateConfig):
        _check_known(values, own, origin)
        return build(config, values)
    method = get_aggregator(_aggregator(own["aggregator"], values))
    chosen = {f.name for f in option_fields(method.Options)}
    _check_known(values, known_options(config) | dict.fromkeys(chosen), origin)
    _check_idle(values, method.name, own.keys() | chosen)
    options = build(method.Options, {name: value for name, value in values.items() if name in chosen})
    return build(config, {n: value for n, value in values.items() if n in own}, aggregator_options=options)


def to_mapping(config: RunConfig) -> dict[str, Any]:
    """The inverse of :func:`from_mapping`: every option of ``config``, those of its aggregator after its name."""
    result: dict[str, Any] = {}
    for f in option_fields(type(config)):
        result[f.name] = getattr(config, f.name)
        if isinstance(config, FederateConfig) and f.name == "aggregator":
            result |= asdict(get_aggregator(config.aggregator).from_config(config).options)
    return result


def told_options(config: RunConfig) -> dict[str, Any]:
    """What a tracker of experiments is told: no option of this machine, and of a path the last part."""
    found = {}
    for f in option_fields(type(config)):
        if f.metadata["travels"] and f.metadata["group"] != EXECUTION:
            value = getattr(config, f.name)
            local = isinstance(value, str) and os.path.isabs(value)
            found[f.name] = os.path.basename(value.rstrip(os.sep)) if local else value
    return found


def _aggregator(f: Field[Any], values: Mapping[str, Any]) -> str:
    name = coerced(f, values.get(f.name, f.default))
    check_field(f, name)
    return str(name)


def _check_known(values: Mapping[str, Any], known: Mapping[str, Any], origin: str) -> None:
    for key in values:
        if key not in known:
            raise FedummError(f"Unknown option {shown_value(key)} in {origin}.{did_you_mean(one_line(key, 60), known)}")


def _check_idle(values: Mapping[str, Any], aggregator: str, used: set[str]) -> None:
    """An option of another aggregator may be there, as in the file of a run that had that one, with its default."""
    for name, (f, others) in method_options().items():
        value = coerced(f, values.get(name, f.default))
        if name not in used and (type(value), value) != (type(f.default), f.default):
            raise FedummError(f"--{name} means nothing to --aggregator {aggregator}, but to {', '.join(others)}.")
