"""Aggregators by name: the files in ``methods``, entry points of installed packages, and a user's own.

Nothing here imports torch, nor does importing a shipped method: ``--help`` shows the options of all.
"""

from __future__ import annotations

import pkgutil
from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from fedumm.aggregation import methods
from fedumm.config import AggregatorOptions, FederateConfig, option_fields, option_types
from fedumm.errors import FedummError
from fedumm.registry import Registry

if TYPE_CHECKING:
    from fedumm.aggregation.base import Aggregator


def _checked(name: str, item: Any) -> type[Aggregator]:
    """``item`` as the aggregator ``name``, if it is one and its options can be a run's."""
    from fedumm.aggregation.base import Aggregator

    if not (isinstance(item, type) and issubclass(item, Aggregator)):
        raise FedummError(f"Aggregator {name!r} must be a subclass of fedumm.aggregation.base.Aggregator.")
    try:
        _check_options(item.Options)
    except FedummError as error:
        raise FedummError(f"Aggregator {name!r}: {error}") from error
    item.name = name
    return item


def _check_options(options: Any) -> None:
    if not (isinstance(options, type) and issubclass(options, AggregatorOptions)):
        raise FedummError("its Options must derive from fedumm.config.AggregatorOptions.")
    if undecorated := [name for name, value in vars(options).items() if isinstance(value, Field)]:
        raise FedummError(
            f"its Options with {undecorated[0]} needs the decorator @dataclass(frozen=True, kw_only=True)."
        )
    taken = {f.name for f in fields(FederateConfig)}
    for f in fields(options):
        if "group" not in f.metadata:
            raise FedummError(f"the field {f.name} of its Options must be made by fedumm.config.option.")
        if f.name in taken:
            raise FedummError(f"its option {f.name} is an option of every run already: rename it.")
        option_types(f)
    try:
        options()
    except TypeError as error:
        raise FedummError(f"each of its options needs a default ({error}).") from error


aggregators: Registry[type[Aggregator]] = Registry(
    "aggregator",
    "fedumm.aggregators",
    {module.name: f"{methods.__name__}.{module.name}" for module in pkgutil.iter_modules(methods.__path__)},
    check=_checked,
)

register_aggregator = aggregators.register
"""Class decorator: ``@register_aggregator("name")`` makes an :class:`~fedumm.aggregation.base.Aggregator` known."""


def available_aggregators() -> list[str]:
    """Names for ``--aggregator``, sorted."""
    return aggregators.names()


def get_aggregator(name: str) -> type[Aggregator]:
    """The class called ``name``.

    Raises:
        FedummError: there is none; the message names the nearest.
    """
    return aggregators.get(name, " One of your own is loaded with --plugin FILE.")


class MethodOption(NamedTuple):
    """An option, and the names of the aggregators that have it."""

    field: Field[Any]
    aggregators: list[str]


def method_options(chosen: str = "") -> dict[str, MethodOption]:
    """Options of the aggregators that are shipped or registered in this process, by name, in the order of these.

    Args:
        chosen: an aggregator whose own options come first; also one of an installed package, which is imported.
    """
    known = sorted({*aggregators.shipped, *aggregators.own()})
    first = [chosen] if chosen and (chosen in known or chosen in aggregators.names()) else []
    found: dict[str, MethodOption] = {}
    for name in [*first, *(other for other in known if other != chosen)]:
        for f in option_fields(get_aggregator(name).Options):
            found.setdefault(f.name, MethodOption(f, [])).aggregators.append(name)
    return found
