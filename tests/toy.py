"""Quick federated runs of the backend in ``toy_backend.py``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedumm.config import FederateConfig

TOY = Path(__file__).parent / "toy_backend.py"
Run = Callable[..., tuple[Path, list[dict[str, Any]]]]


def toy_config(**options: Any) -> FederateConfig:
    """A run of the toy backend: 3 clients with 160 questions between them, 2 rounds."""
    defaults: dict[str, Any] = {
        "model_backend": "toy",
        "backend_file": str(TOY),
        "num_clients": 3,
        "num_rounds": 2,
        "max_train_samples": 160,
        "max_eval_samples": 40,
        "batch_size": 4,
        "grad_accum": 2,
        "lr": 1e-2,
        "dirichlet_alpha": 0.5,
        "in_process": True,
        "threads": 1,
    }
    return FederateConfig(**{**defaults, **options})
