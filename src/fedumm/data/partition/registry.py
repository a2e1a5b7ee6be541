"""Partitioners by name: shipped ones, entry points of installed packages, and users' own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedumm.data.partition.base import Partitioner
from fedumm.errors import FedummError
from fedumm.registry import Registry

if TYPE_CHECKING:
    from fedumm.config import FederateConfig

SHIPPED = {
    "dirichlet": "fedumm.data.partition.dirichlet",
    "iid": "fedumm.data.partition.iid",
    "task": "fedumm.data.partition.task_share",
}
_HINT = " One of your own is loaded with --plugin FILE."


def _of_module(module: Any, name: str) -> type[Partitioner]:
    """The class of that name."""
    return next(item for item in vars(module).values() if isinstance(item, type) and getattr(item, "name", "") == name)


def _checked(name: str, item: Any) -> type[Partitioner]:
    if not (isinstance(item, type) and issubclass(item, Partitioner)):
        raise FedummError(f"Partitioner {name!r} is no subclass of fedumm.data.partition.Partitioner.")
    item.name = name
    return item


PARTITIONERS: Registry[type[Partitioner]] = Registry(
    "partitioner", "fedumm.partitioners", SHIPPED, _of_module, _checked
)

register_partitioner = PARTITIONERS.register
"""``@register_partitioner(name)`` above a subclass of :class:`Partitioner`, or ``register_partitioner(name, cls)``."""


def partitioner_for(config: FederateConfig) -> Partitioner:
    """The partitioner that ``--partition`` names; without a name that of :func:`by_labels`.

    Raises:
        FedummError: there is none of that name, or the options make no sense for it.
    """
    name, _, argument = config.partition.partition(":")
    if name in ("", "own"):
        return by_labels(config)
    return PARTITIONERS.get(name, _HINT).from_config(config, argument)


def by_labels(config: FederateConfig) -> Partitioner:
    """``iid`` for a ``--dirichlet_alpha`` of 0, else ``dirichlet``."""
    return PARTITIONERS.get("dirichlet" if config.dirichlet_alpha > 0 else "iid").from_config(config, "")
