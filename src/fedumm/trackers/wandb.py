"""Weights & Biases: a run in the project ``fedumm``; with ``WANDB_MODE=offline`` files below ``WANDB_DIR`` only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from fedumm.trackers.protocol import Axis

PROJECT = "fedumm"
"""Unless ``WANDB_PROJECT`` says otherwise."""

_AXES = {"round": ("round", "client"), "epoch": ("epoch",), "step": ("steps",)}
"""By the axis, how the names of its numbers begin."""


class WeightsAndBiases:
    """Numbers over rounds, epochs or steps. Neither code, nor what is printed, nor what the machine is, is sent."""

    packages: ClassVar[tuple[str, ...]] = ("wandb",)

    def start(self, name: str, folder: Path, options: Mapping[str, Any], known: str) -> str:
        """Create the run, or go on with the one that is known. Its files are not for the run's folder: it makes links,
        and a run with links in it is not resumed."""
        # Reports of errors go to its makers.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        settings = wandb.Settings(
            console="off", save_code=False, disable_git=True, disable_job_creation=True, silent=True,
            x_disable_stats=True, x_disable_meta=True, x_disable_machine_info=True, x_save_requirements=False,
            host="-",
        )  # fmt: skip
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        self._run = wandb.init(
            project=project, name=name, config=dict(options), id=known or None,
            resume="allow" if known else None, settings=settings, reinit="create_new",
        )  # fmt: skip
        for axis, groups in _AXES.items():
            self._run.define_metric(axis, hidden=True)
            for group in groups:
                self._run.define_metric(f"{group}/*", step_metric=axis)
        return str(self._run.id)

    def log(self, axis: Axis, step: int, numbers: Mapping[str, float]) -> None:
        """Add numbers over their own axis."""
        self._run.log({axis: step, **numbers})

    def finish(self, failed: bool) -> None:
        """End the run, and wait until all is sent."""
        self._run.finish(exit_code=int(failed))


TRACKER = WeightsAndBiases
