"""Libraries that take seconds to import, imported when something of them is first used.

For modules whose classes are looked at by ``--help``, which imports no torch. Not ``importlib.util.LazyLoader``: that
puts the module into ``sys.modules`` at once, where other libraries take it for one that is imported already.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = ["torch"]


class _Lazy(ModuleType):
    """Stands for the module of its name."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


if TYPE_CHECKING:
    import torch
else:
    torch = _Lazy("torch")
