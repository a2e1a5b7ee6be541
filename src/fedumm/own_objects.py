"""Options given as objects of Python in place of names: each has a name of its own for the time of a call.

A ``datasets.DatasetDict`` or ``Dataset``, a backend, an aggregator or a partitioner (as a class or as an object), a
function that scores answers. Such a run can't be repeated from a file, nor in other processes, which know nothing of
this one's objects.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from fedumm.aggregation.registry import aggregators
from fedumm.backends.registry import BACKENDS
from fedumm.data.partition.registry import PARTITIONERS
from fedumm.data.request import DataRequest, DataSplits, Source
from fedumm.data.source import SOURCES
from fedumm.data.splits import TRAIN, chosen
from fedumm.errors import FedummError
from fedumm.metrics.registry import METRICS
from fedumm.registry import Registry

OPTIONS = ("dataset", "model_backend", "aggregator", "partition", "answer_metric")
"""Those that may be objects."""

_REGISTRIES: Mapping[str, Registry[Any]] = {
    "dataset": SOURCES,
    "model_backend": BACKENDS,
    "aggregator": aggregators,
    "partition": PARTITIONERS,
    "answer_metric": METRICS,
}


def own_objects(options: Mapping[str, Any]) -> list[str]:
    """The options that are given as objects without a name, in order."""
    return [name for name in OPTIONS if _is_object(options.get(name)) and not _is_known(name, options[name])]


@contextmanager
def named(options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """``options`` with names in place of objects; the names are known inside of the ``with`` block.

    Raises:
        FedummError: an object is not what its option takes.
    """
    given = dict(options)
    with ExitStack() as undo:
        given |= {name: options[name].name for name in OPTIONS if _is_known(name, options.get(name))}
        for option in own_objects(options):
            registry, value = _REGISTRIES[option], options[option]
            given[option] = name = _free_name(registry, value)
            registry.register(name, _MAKE[option](value, name))
            undo.callback(registry.forget, name)
            if option in ("aggregator", "partition") and not isinstance(value, type):
                undo.enter_context(_called(value, name))
        yield given


@contextmanager
def _called(value: Any, name: str) -> Iterator[None]:
    """An object whose ``name`` is ``name`` for a while: reports call it as the options do."""
    before = vars(value).get("name")
    value.name = name
    try:
        yield
    finally:
        if before is None:
            del value.name
        else:
            value.name = before


def not_repeatable(options: Mapping[str, Any]) -> str:
    """What stands in ``config.yaml`` in place of a command; empty where no option is an object."""
    own = own_objects(options)
    if not own:
        return ""
    return f"not possible from this file, since objects of a Python program were given as {', '.join(own)}"


def check_process(options: Mapping[str, Any], others: str) -> None:
    """Raise :class:`FedummError` if options are objects that ``others`` (an option, in words) could not know."""
    if own := own_objects(options):
        raise FedummError(
            f"{own[0]}= is an object of this process, and {others}: put it into a file that registers it, and name "
            "that (plugin=FILE). fedumm new writes such a file."
        )


def _is_object(value: Any) -> bool:
    return not isinstance(value, str | os.PathLike | None)


def _is_known(option: str, value: Any) -> bool:
    """Whether it is a class that has its name already, a shipped one for instance."""
    registry, name = _REGISTRIES[option], getattr(value, "name", "")
    return isinstance(value, type) and bool(name) and name in registry.names() and registry.get(str(name)) is value


def _free_name(registry: Registry[Any], value: Any) -> str:
    own = getattr(value, "__name__", type(value).__name__)
    plain = re.sub(r"\W+", "_", own).strip("_")
    name, number, there = f"python_{plain}", 1, registry.names()
    while name in there:
        number += 1
        name = f"python_{plain}_{number}"
    return name


def _source(value: Any, name: str) -> Source:
    from datasets import Dataset, DatasetDict

    if isinstance(value, Dataset):
        value = {TRAIN: value}
    elif not isinstance(value, DatasetDict):
        raise FedummError(
            f"dataset= is a value of type {type(value).__name__}. Give a datasets.DatasetDict, a datasets.Dataset (of "
            "which a share is evaluated on), or a name, a folder or a file."
        )
    return partial(_splits, value, name)


def _splits(parts: Mapping[str, Any], name: str, request: DataRequest) -> DataSplits:
    return chosen({str(split): partial(parts.__getitem__, split) for split in parts}, request, name)


def _as_it_is(value: Any, name: str) -> Any:
    return value


def _class(value: Any, name: str) -> Any:
    """A class for the registry, which gives it a name: not the user's own, which keeps what it has."""
    kind = value if isinstance(value, type) else type(value)
    body: dict[str, Any] = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__qualname__": kind.__qualname__}
    if inspect.isabstract(kind):
        missing = ", ".join(sorted(getattr(kind, "__abstractmethods__", ())))
        raise FedummError(f"{kind.__name__} lacks the method(s) {missing}.")
    if not isinstance(value, type):
        # The object itself serves the run: its maker may want to look at it afterwards.
        body["from_config"] = classmethod(lambda cls, *args: value)
    return type(kind.__name__, (kind,), body)


_MAKE: Mapping[str, Callable[[Any, str], Any]] = {
    "dataset": _source,
    "model_backend": _as_it_is,
    "aggregator": _class,
    "partition": _class,
    "answer_metric": _as_it_is,
}
