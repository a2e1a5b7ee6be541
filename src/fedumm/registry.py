"""Things by name: what is shipped, what installed packages offer by entry point, and what a user's code registers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Generic, NamedTuple, TypeVar, overload

from fedumm.errors import FedummError, did_you_mean
from fedumm.texts import one_line

T = TypeVar("T")
Item = TypeVar("Item")
_MISSING = object()


class Registry(Generic[T]):
    """Names of one kind of thing. Nothing is imported before it is asked for.

    A name is looked for among what was registered, what is shipped and the entry points of installed packages, in this
    order: user's code may replace what is shipped, an installed package may not.

    Args:
        kind: what a thing is called in messages, such as ``aggregator``.
        group: entry point group, such as ``fedumm.aggregators``.
        shipped: name to the module that holds the thing, or registers it on import.
        find: takes a thing out of a shipped module, by its name; None: the module registers it on import.
        check: raises :class:`FedummError` for what is no such thing, and returns what is to be kept.

    Example:
        >>> shapes: Registry[type] = Registry("shape", "example.shapes")
        >>> @shapes.register("square")
        ... class Square:
        ...     corners = 4
        >>> shapes.get("square").corners, shapes.names()
        (4, ['square'])
    """

    def __init__(
        self,
        kind: str,
        group: str,
        shipped: Mapping[str, str] | None = None,
        find: Callable[[Any, str], T] | None = None,
        check: Callable[[str, Any], T] | None = None,
    ) -> None:
        self.kind, self.group, self.shipped = kind, group, dict(shipped or {})
        self._find, self._check = find, check
        self._registered: dict[str, T] = {}
        self._loaded: dict[str, T] = {}
        REGISTRIES.append(self)

    @overload
    def register(self, name: str, item: Item) -> Item: ...

    @overload
    def register(self, name: str) -> Callable[[Item], Item]: ...

    def register(self, name: str, item: Any = _MISSING) -> Any:
        """Make ``item`` known as ``name``; without ``item``, a decorator. A later registration replaces an earlier one.

        Raises:
            FedummError: ``item`` is no such thing.
        """
        if item is _MISSING:
            return lambda decorated: self.register(name, decorated)
        other = getattr(item, "name", "")
        if other != name and self._is_shipped(other, item):
            # Its name would be changed by this, and the shipped one be found no more.
            raise FedummError(f"That is the shipped {self.kind} {other!r}: derive a class of your own for {name!r}.")
        kept = self._checked(name, item)
        if self._is_shipped(name, item):
            self._loaded[name] = kept
        else:
            self._registered[name] = kept
            for log in _LOGS:
                log.append(Registration(self, name, item))
        return item

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted({*self.shipped, *self._registered, *(point.name for point in entry_points(group=self.group))})

    def own(self) -> dict[str, T]:
        """What a user's code has registered in this process, by name; not what is shipped or installed."""
        return dict(self._registered)

    def check(self, name: str, hint: str = "") -> None:
        """Raise :class:`FedummError` for an unknown name, without importing anything; ``hint`` ends the message."""
        # To list the entry points of all packages takes tens of milliseconds, and a study asks for each of its runs.
        if name in self.shipped or name in self._registered:
            return
        if name not in (known := self.names()):
            raise FedummError(
                f"Unknown {self.kind} {one_line(name, 60)!r}. Available: {', '.join(known)}.{did_you_mean(name, known)}"
                f"{hint}"
            )

    def get(self, name: str, hint: str = "") -> T:
        """The thing called ``name``, imported on first use.

        Raises:
            FedummError: there is none, or what should register it does not.
        """
        if name in self._registered:
            return self._registered[name]
        if name not in self._loaded:
            self.check(name, hint)
            with _unlogged():
                self._loaded[name] = self._load(name)
        return self._loaded[name]

    def forget(self, name: str) -> None:
        """Take a registration back; what is shipped under that name is there again."""
        self._registered.pop(name, None)

    def is_shipped(self, name: str) -> bool:
        """Whether :meth:`get` gives what is shipped under ``name``: nobody has replaced it. Imports nothing."""
        return name in self.shipped and name not in self._registered

    def _checked(self, name: str, item: Any) -> T:
        return self._check(name, item) if self._check else item

    def _is_shipped(self, name: str, item: Any) -> bool:
        """Whether ``item`` is the shipped one, which its module registers whoever imports that."""
        home = self.shipped.get(name)
        return home is not None and f"{getattr(item, '__module__', '')}.".startswith(f"{home}.")

    def _load(self, name: str) -> T:
        if name in self.shipped:
            module = importlib.import_module(self.shipped[name])
            return self._checked(name, self._find(module, name)) if self._find else self._loaded[name]
        point = next(iter(entry_points(group=self.group, name=name)))
        try:
            return self._installed(name, point)
        except FedummError:
            raise
        except Exception as error:
            raise FedummError(
                f"The entry point {point.value!r} of the {self.kind} {name!r} failed: {type(error).__name__}: {error}"
            ) from error

    def _installed(self, name: str, point: EntryPoint) -> T:
        """An entry point names the thing, or a module that registers it."""
        loaded = point.load()
        if name in self._registered:
            return self._registered.pop(name)
        if isinstance(loaded, ModuleType):
            raise FedummError(f"The entry point {point.value!r} did not register a {self.kind} called {name!r}.")
        return self._checked(name, loaded)


REGISTRIES: list[Registry[Any]] = []
"""All that were made."""


class Registration(NamedTuple):
    """One call of :meth:`Registry.register`."""

    registry: Registry[Any]
    name: str
    item: Any


_LOGS: list[list[Registration]] = []


@contextmanager
def registrations() -> Iterator[list[Registration]]:
    """What is registered inside of the ``with`` block, in order; not what is shipped or installed."""
    log: list[Registration] = []
    _LOGS.append(log)
    try:
        yield log
    finally:
        _LOGS.pop()


@contextmanager
def _unlogged() -> Iterator[None]:
    before = [len(log) for log in _LOGS]
    try:
        yield
    finally:
        for log, length in zip(_LOGS, before, strict=True):
            del log[length:]
