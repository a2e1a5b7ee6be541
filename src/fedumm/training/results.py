"""The result of local training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedumm.adapters.state import AdapterState


@dataclass(frozen=True)
class TrainResult:
    """What local training did.

    ``loss`` is the mean training loss per sample that was trained on, over all epochs, measured
    while the weights moved, ``losses`` the same for each task; ``samples`` the size of the data
    set, ``steps`` the optimiser steps that were done; ``adapter`` all of the adapter that got a
    gradient.
    """

    loss: float
    losses: dict[str, float]
    samples: int
    steps: int
    seconds: float
    adapter: AdapterState = field(repr=False)
