"""FedUMM: federated LoRA fine-tuning of vision-language and unified multimodal models.

What is offered here is imported when it is used: ``import fedumm`` alone loads no library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedumm.api import Run, federate, load_run, train
    from fedumm.config import CentralConfig, FederateConfig
    from fedumm.errors import FedummError

__version__ = "0.1.0"

__all__ = ["CentralConfig", "FederateConfig", "FedummError", "Run", "federate", "load_run", "train"]

_HOMES = {
    "CentralConfig": "fedumm.config",
    "FederateConfig": "fedumm.config",
    "FedummError": "fedumm.errors",
    "Run": "fedumm.report.run",
    "federate": "fedumm.api",
    "load_run": "fedumm.report.run",
    "train": "fedumm.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
