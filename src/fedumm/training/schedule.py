"""The learning rate over a whole training: the same curve over rounds and over epochs."""

from __future__ import annotations

import math

import torch

from fedumm.config import RunConfig

WHOLE = (0.0, 1.0)
"""All of the training, in one go."""


def share_of_lr(kind: str, warmup: float, done: float) -> float:
    """The share of ``--lr`` that holds when a share ``done`` (0..1) of the training is over.

    It rises in a line over the first ``warmup`` of the training, and then stays (``constant``) or falls to 0: in a line
    (``linear``) or as half a cosine (``cosine``; Loshchilov & Hutter, 2017, https://arxiv.org/abs/1608.03983).
    """
    if done < warmup:
        return done / warmup
    rest = (done - warmup) / (1 - warmup)
    return {"constant": 1.0, "linear": 1 - rest, "cosine": 0.5 * (1 + math.cos(math.pi * rest))}[kind]


class Schedule:
    """Called before each optimiser step; sets its learning rate to that of the middle of the step.

    Args:
        span: the part of the whole training that these steps are: of round 2 of 4 it is (0.25, 0.5).
        steps: how many there are.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, config: RunConfig, span: tuple[float, float], steps: int
    ) -> None:
        self._optimizer, self._config, self._span, self._steps, self._next = optimizer, config, span, steps, 0

    def __call__(self) -> None:
        """The next step is about to be done."""
        begin, end = self._span
        done = begin + (end - begin) * (self._next + 0.5) / self._steps
        self._next += 1
        share = share_of_lr(self._config.lr_schedule, self._config.lr_warmup, done)
        for group in self._optimizer.param_groups:
            group["lr"] = self._config.lr * share
