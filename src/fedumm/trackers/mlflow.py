"""MLflow: a run in the experiment ``fedumm``, where ``MLFLOW_TRACKING_URI`` says, or in MLflow's own default place."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from fedumm.trackers.protocol import Axis

EXPERIMENT = "fedumm"
"""Unless ``MLFLOW_EXPERIMENT_NAME`` says otherwise."""

_LONGEST = 500
_AT_ONCE = 100


class MLflow:
    """Metrics by round, epoch or step; options as parameters.

    Through a client of its own: nothing of the process is looked at, such as its user or its git folder.
    """

    packages: ClassVar[tuple[str, ...]] = ("mlflow", "sqlalchemy", "alembic")

    def start(self, name: str, folder: Path, options: Mapping[str, Any], known: str) -> str:
        """Create the run, or go on with the one that is known."""
        # It would tell its makers how it is used.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException

        self._metric, self._waiting, self._client = Metric, list[Any](), MlflowClient()
        if known:
            try:
                self._run = self._client.get_run(known).info.run_id
            except MlflowException:  # deleted there, or of another server
                pass
            else:
                self._client.update_run(self._run, "RUNNING")
                return known
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        experiment = self._client.get_experiment_by_name(title)
        place = experiment.experiment_id if experiment else self._client.create_experiment(title)
        self._run = self._client.create_run(place, run_name=name).info.run_id
        params = [Param(key, str(value)[:_LONGEST]) for key, value in options.items()]
        for first in range(0, len(params), _AT_ONCE):
            self._client.log_batch(self._run, params=params[first : first + _AT_ONCE])
        return str(self._run)

    def log(self, axis: Axis, step: int, numbers: Mapping[str, float]) -> None:
        """Add metrics: those of a step are sent with the next ones of a round or an epoch."""
        now = int(1000 * time.time())
        self._waiting += [self._metric(_name(name), value, now, step) for name, value in numbers.items()]
        if axis != "step" or len(self._waiting) >= 10 * _AT_ONCE:
            self._send()

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for first in range(0, len(waiting), 10 * _AT_ONCE):
            self._client.log_batch(self._run, metrics=waiting[first : first + 10 * _AT_ONCE])

    def finish(self, failed: bool) -> None:
        """Send the rest, and say how the run ended."""
        self._send()
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


def _name(name: str) -> str:
    """With the characters that MLflow allows."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)


TRACKER = MLflow
