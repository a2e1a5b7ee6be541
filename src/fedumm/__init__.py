"""FedUMM: federated LoRA fine-tuning of vision-language and unified multimodal models.

What is offered here is imported when it is used: ``import fedumm`` alone loads no library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedumm.aggregation.registry import register_aggregator
    from fedumm.api import Adapter, Run, dry_run, evaluate, federate, load_run, partition, train
    from fedumm.backends.registry import register_backend
    from fedumm.compression.registry import register_codec
    from fedumm.config import CentralConfig, FederateConfig
    from fedumm.data.partition import register_partitioner
    from fedumm.data.source import register_source
    from fedumm.detectors import register_detector
    from fedumm.errors import FedummError
    from fedumm.metrics.registry import register_metric

__version__ = "0.1.0"

_HOMES = {
    "Adapter": "fedumm.api",
    "CentralConfig": "fedumm.config",
    "FederateConfig": "fedumm.config",
    "FedummError": "fedumm.errors",
    "Run": "fedumm.api",
    "dry_run": "fedumm.api",
    "evaluate": "fedumm.api",
    "federate": "fedumm.api",
    "load_run": "fedumm.api",
    "partition": "fedumm.api",
    "register_aggregator": "fedumm.aggregation.registry",
    "register_backend": "fedumm.backends.registry",
    "register_codec": "fedumm.compression.registry",
    "register_detector": "fedumm.detectors",
    "register_metric": "fedumm.metrics.registry",
    "register_partitioner": "fedumm.data.partition",
    "register_source": "fedumm.data.source",
    "train": "fedumm.api",
}

__all__ = [
    "Adapter",
    "CentralConfig",
    "FederateConfig",
    "FedummError",
    "Run",
    "dry_run",
    "evaluate",
    "federate",
    "load_run",
    "partition",
    "register_aggregator",
    "register_backend",
    "register_codec",
    "register_detector",
    "register_metric",
    "register_partitioner",
    "register_source",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
