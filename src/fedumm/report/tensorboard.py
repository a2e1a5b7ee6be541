"""TensorBoard events of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedumm.texts import tag

_ROUND = (
    "train_loss",
    "heldout",
    "heldout_before",
    "heldout_after",
    "test",
    "bytes_down",
    "bytes_up",
    "seconds",
    "aggregation_error",
    "epsilon",
)
_CLIENT = ("train_loss", "heldout", "heldout_after", "num_samples")
_EPOCH = ("train_loss", "test", "seconds")
_SCORES = ("heldout", "heldout_before", "heldout_after", "test")


class EventWriter:
    """Scalars by round: ``round/...`` for the run, ``client/<name>/...`` for each client.

    Of a run with several tasks also ``train_loss/<task>``, ``heldout/<task>`` and so on, and of image
    tokens ``heldout/t2i_loss``; of texts ``heldout/i2t_cider`` and the others.

    Of a central run ``epoch/...`` by epoch, the untrained adapter's at 0.

    ``heldout`` and ``test`` of step r score the adapter that round r started from: on as many clients' held-out data
    as ``heldout_clients`` says. ``heldout_before`` and ``heldout_after`` are the scores of those who trained.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def write(self, record: dict[str, Any]) -> None:
        """Add what ``record`` holds; other kinds of records are passed over."""
        kind = record["event"]
        if kind in {"round", "client"}:
            names, prefix = (_ROUND, "round") if kind == "round" else (_CLIENT, f"client/{tag(record['client'])}")
            for name in names:
                self._add(f"{prefix}/{name}", record.get(name), record["round"])
            self._add_tasks(prefix, record, record["round"])
        if kind == "epoch":
            for name in _EPOCH:
                self._add(f"epoch/{name}", record.get(name), record["epoch"])
            self._add_tasks("epoch", record, record["epoch"])
        if kind == "folded":
            self._add("round/folding_error", record["folding_error"], record["round"])
        if kind == "final":
            for name in ("heldout", "test"):
                self._add(f"round/{name}", record[name], record["round"] + 1)
            self._add_tasks("round", record, record["round"] + 1)
        if scorers := record.get("heldout_clients"):
            self._add("round/heldout_clients", len(scorers), record["round"] + (kind == "final"))
        self._writer.flush()

    def _add(self, tag: str, value: Any, step: int) -> None:
        if isinstance(value, int | float):
            self._writer.add_scalar(tag, value, step)

    def _add_tasks(self, prefix: str, record: dict[str, Any], step: int) -> None:
        for name in _SCORES:
            tasks = record.get(f"{name}_tasks") or {}
            for task, entry in tasks.items():
                if len(tasks) > 1 or "loss" in entry:
                    self._add(f"{prefix}/{name}/{tag(task)}", entry["score"], step)
                    self._add(f"{prefix}/{name}/{tag(task)}_loss", entry.get("loss"), step)
                for other, value in entry.get("others", {}).items():
                    self._add(f"{prefix}/{name}/{tag(task)}_{tag(other)}", value, step)
        losses = record.get("train_losses") or {}
        for task, loss in losses.items() if len(losses) > 1 else ():
            self._add(f"{prefix}/train_loss/{tag(task)}", loss, step)

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()
