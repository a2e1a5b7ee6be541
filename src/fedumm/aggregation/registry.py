"""Aggregators by name."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from fedumm.aggregation import methods
from fedumm.errors import FedummError, did_you_mean

if TYPE_CHECKING:
    from fedumm.aggregation.base import Aggregator


def available_aggregators() -> list[str]:
    """Names for ``--aggregator``: those of the files in ``methods``."""
    return sorted(module.name for module in pkgutil.iter_modules(methods.__path__))


def get_aggregator(name: str) -> type[Aggregator]:
    """The class called ``name``.

    Raises:
        FedummError: there is none; the message names the nearest.
    """
    known = available_aggregators()
    if name not in known:
        raise FedummError(f"Unknown aggregator {name!r}. Available: {', '.join(known)}.{did_you_mean(name, known)}")
    module = importlib.import_module(f"{methods.__name__}.{name}")
    found: type[Aggregator] = next(c for c in vars(module).values() if getattr(c, "name", None) == name)
    return found
