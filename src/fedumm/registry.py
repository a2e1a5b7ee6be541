"""Things by name: what is shipped, what installed packages offer by entry point, and what a user's code registers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, overload

from fedumm.errors import FedummError, did_you_mean
from fedumm.texts import one_line

T = TypeVar("T")
Item = TypeVar("Item")


class Registry(Generic[T]):
    """Names of one kind of thing. Nothing is imported before it is asked for.

    A name is looked for among what was registered, what is shipped and the entry points of installed packages, in this
    order: user's code may replace what is shipped, an installed package may not.

    Args:
        kind: what a thing is called in messages, such as ``aggregator``.
        group: entry point group, such as ``fedumm.aggregators``.
        shipped: name to the module that holds the thing, or registers it on import.
        find: takes a thing out of a shipped module; None: the module registers it on import.
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
        _ALL.append(self)

    @overload
    def register(self, name: str, item: Item) -> Item: ...

    @overload
    def register(self, name: str) -> Callable[[Item], Item]: ...

    def register(self, name: str, item: Any = None) -> Any:
        """Make ``item`` known as ``name``; without ``item``, a decorator. A later registration replaces an earlier one.

        Raises:
            FedummError: ``item`` is no such thing.
        """
        if item is None:
            return lambda decorated: self.register(name, decorated)
        self._registered[name] = self._check(name, item) if self._check else item
        return item

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted({*self.shipped, *self._registered, *(point.name for point in entry_points(group=self.group))})

    def own(self) -> dict[str, T]:
        """What code has registered in this process, by name."""
        return dict(self._registered)

    def check(self, name: str, hint: str = "") -> None:
        """Raise :class:`FedummError` for an unknown name, without importing anything; ``hint`` ends the message."""
        known = self.names()
        if name not in known:
            raise FedummError(
                f"Unknown {self.kind} {one_line(name, 60)!r}. Available: {', '.join(known)}.{did_you_mean(name, known)}"
                f"{hint}"
            )

    def get(self, name: str, hint: str = "") -> T:
        """The thing called ``name``, imported on first use.

        Raises:
            FedummError: there is none, or what should register it does not.
        """
        if name not in self._registered:
            # To list the entry points of all packages takes tens of milliseconds.
            if name not in self.shipped:
                self.check(name, hint)
            self._load(name)
        return self._registered[name]

    def forget(self, name: str) -> None:
        """Take a registration back; what is shipped under that name is there again."""
        self._registered.pop(name, None)

    def _load(self, name: str) -> None:
        if name in self.shipped:
            module = importlib.import_module(self.shipped[name])
            if self._find:
                self.register(name, self._find(module, name))
            return
        point = next(iter(entry_points(group=self.group, name=name)))
        try:
            loaded = point.load()
            # An entry point names the thing, or a module that registers it.
            if name not in self._registered:
                self.register(name, loaded)
        except FedummError:
            raise
        except Exception as error:
            raise FedummError(
                f"The entry point {point.value!r} of the {self.kind} {name!r} failed: {type(error).__name__}: {error}"
            ) from error


_ALL: list[Registry[Any]] = []


def registered() -> dict[str, list[str]]:
    """Names that code has registered in this process, by kind."""
    return {registry.kind: sorted(registry.own()) for registry in _ALL if registry.own()}
