"""TensorBoard: event files in the run's folder, which ``tensorboard --logdir runs`` shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from fedumm.trackers.protocol import Axis

FOLDER = "tensorboard"


class TensorBoard:
    """Writes ``RUN/tensorboard/``."""

    packages: ClassVar[tuple[str, ...]] = ()

    def start(self, name: str, folder: Path, options: Mapping[str, Any], known: str) -> str:
        """Open a new event file, also where a run is resumed: TensorBoard shows them as one."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / FOLDER))
        return ""

    def log(self, axis: Axis, step: int, numbers: Mapping[str, float]) -> None:
        """Add a scalar for each."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        if axis != "step":
            self._writer.flush()

    def finish(self, failed: bool) -> None:
        """Flush and close the event file."""
        self._writer.close()


TRACKER = TensorBoard
