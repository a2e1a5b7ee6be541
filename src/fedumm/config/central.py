"""Options of ``fedumm train`` (``src/local_train.py``)."""

from __future__ import annotations

from dataclasses import dataclass

from fedumm.config import validators
from fedumm.config.fields import DATA, EXECUTION, TRAINING, option
from fedumm.config.run import RunConfig
from fedumm.errors import FedummError


@dataclass(frozen=True, kw_only=True)
class CentralConfig(RunConfig):
    """Options of ``fedumm train`` (``src/local_train.py``), the centralised baseline."""

    num_epochs: int = option(TRAINING, "Training epochs", 1, validators.positive)
    holdout: float = option(
        DATA,
        "Share of the training images that is not trained on but scored after each epoch, and that --patience goes by "
        "(0: none)",
        0.0,
        validators.probability,
    )
    output_dir: str = option(EXECUTION, "Save model here", "./workspace_centralized")
    overwrite: bool = option(EXECUTION, "Replace a finished run in --output_dir", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.equal_ranks:
            raise FedummError("--lora_r and --lora_alpha by client are for federated runs: give one number.")
