"""TensorBoard events of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_ROUND = ("train_loss", "heldout", "heldout_after", "test", "bytes_down", "bytes_up", "seconds")
_CLIENT = ("train_loss", "heldout", "heldout_after", "num_samples")


class EventWriter:
    """Scalars by round: ``round/...`` for the run, ``client/<name>/...`` for each client.

    ``heldout`` and ``test`` of step r score the adapter that round r started from.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def write(self, record: dict[str, Any]) -> None:
        """Add what ``record`` holds; other kinds of records are passed over."""
        kind = record["event"]
        if kind in {"round", "client"}:
            names, prefix = (_ROUND, "round") if kind == "round" else (_CLIENT, f"client/{record['client']}")
            for name in names:
                if isinstance(value := record.get(name), int | float):
                    self._writer.add_scalar(f"{prefix}/{name}", value, record["round"])
        if kind == "final":
            for name in ("heldout", "test"):
                if record[name] is not None:
                    self._writer.add_scalar(f"round/{name}", record[name], record["round"] + 1)
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()
