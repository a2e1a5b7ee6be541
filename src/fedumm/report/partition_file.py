"""How a run's data are split, in its folder."""

from __future__ import annotations

import json
from pathlib import Path

from fedumm.config import FederateConfig
from fedumm.files import write_atomically
from fedumm.run_events import PartitionEvent

PARTITION = "partition.json"


def save_partition(path: Path, config: FederateConfig, event: PartitionEvent) -> None:
    """Write ``partition.json`` into the run folder ``path``."""
    content = {
        "method": event.method,
        "alpha": config.dirichlet_alpha,
        "by": config.partition_by,
        "seed": config.seed,
        "holdout": config.holdout,
        "keep_images_whole": config.keep_images_whole,
        "fingerprint": event.fingerprint,
        "clients": event.clients,
    }
    write_atomically(path / PARTITION, json.dumps(content, indent=1) + "\n")
