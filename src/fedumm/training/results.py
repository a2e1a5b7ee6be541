"""What training and evaluating give back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainResult:
    """What local training did.

    ``loss`` is the mean training loss per sample over all epochs, measured while the weights
    moved; ``samples`` the size of the data set, ``steps`` the optimiser steps.
    """

    loss: float
    samples: int
    steps: int
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """A score in 0..1 (or the backend's own unit), and the number of samples it is a mean of.

    ``parts`` holds the same pair for named subsets, for example answer types.
    """

    score: float
    count: int
    parts: dict[str, tuple[float, int]]
