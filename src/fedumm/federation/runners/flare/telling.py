"""What a running job tells its administrator: its records, numbers for FLARE's monitor, a line a round for the log."""

from __future__ import annotations

import json
import threading
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedumm.formatting import scores_text
from fedumm.report.run_folder import METRICS, finite
from fedumm.run_events import Record, RunListener

TOPIC = "fedumm"
"""Of the application's command that ``fedumm watch`` sends."""

SINCE, RECORDS = "since", "records"
"""Keys of the question (how many records the asker has) and of the answer (those that follow)."""

MOST_RECORDS, MOST_BYTES = 200, 1_000_000
"""Of one answer; it has one record at least, if there is another."""

_STATISTICS = {"round": "round", "accuracy": "heldout", "test": "test", "loss": "train_loss", "clients": "clients"}
"""What FLARE's monitor is told of a round: its name there, and the record's."""


class Telling(RunListener):
    """Of one run at its server.

    Args:
        log: writes one line to the server's log.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._records: _Lines | None = None
        self._asked: set[str] = set()
        self._before_rounds = 0.0
        self.statistics: dict[str, Any] = {}
        """Of the last round, for FLARE's monitor."""

    def begin(self, folder: Path) -> None:
        """The run has its folder now."""
        self._records = _Lines(folder / METRICS)

    def answer(self, topic: str, data: Any, fl_ctx: Any) -> dict[str, Any]:
        """FLARE's handler of the command: ``{"records": [...]}``, those after the first ``data["since"]``.

        What is asked wrongly is answered from the start.
        """
        since = data.get(SINCE) if isinstance(data, Mapping) else 0
        since = since if type(since) is int and since >= 0 else 0
        return {RECORDS: self._records.after(since) if self._records else []}

    def handle_event(self, event_type: str, fl_ctx: Any) -> None:
        """FLARE's monitor asks for numbers: give those of the last round."""
        # Not above: a watcher's command line imports this module before its input is known to be good.
        from nvflare.widgets.info_collector import GroupInfoCollector, InfoCollector

        if event_type == InfoCollector.EVENT_TYPE_GET_STATS:
            collector = fl_ctx.get_prop(InfoCollector.CTX_KEY_STATS_COLLECTOR)
            if isinstance(collector, GroupInfoCollector):
                collector.add_info(TOPIC, dict(self.statistics))

    def on_setup(self, record: Record) -> None:
        """All that came before the first round is no part of a round's time."""
        self._before_rounds = record["seconds"]

    def on_client(self, record: Record) -> None:
        """Count who was asked in this round."""
        self._asked.add(str(record["client"]))

    def on_round(self, record: Record) -> None:
        """Keep its numbers and write its line."""
        told = finite(record)
        self.statistics = {name: told[key] for name, key in _STATISTICS.items() if told.get(key) is not None}
        asked = max(len(self._asked), record["clients"])
        self._asked.clear()
        left = (record["elapsed"] - self._before_rounds) / record["round"] * (record["rounds"] - record["round"])
        self._log(
            f"round {record['round']}/{record['rounds']}: {record['clients']} of {asked} clients used, held-out "
            f"{scores_text(record, 'heldout')}, common test {scores_text(record, 'test')}, "
            f"{record['bytes_down'] / 1e6:.2f} MB down, {record['bytes_up'] / 1e6:.2f} MB up, "
            f"{record['seconds']:.1f} s, about {left:.0f} s left"
        )


class _Lines:
    """A growing file of JSON lines, of which any can be found again without reading those before it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._starts = array("Q", [0])
        """Where each whole line begins, and where the next one will."""

    def after(self, count: int) -> list[dict[str, Any]]:
        """The lines after the first ``count``, as many as fit into an answer."""
        if not self._path.exists():
            return []
        with self._lock, open(self._path, "rb") as file:
            file.seek(self._starts[-1])
            for line in file:
                if line.endswith(b"\n"):
                    self._starts.append(self._starts[-1] + len(line))
            last = min(len(self._starts) - 1, count + MOST_RECORDS)
            while last > count + 1 and self._starts[last] - self._starts[count] > MOST_BYTES:
                last -= 1
            if last <= count:
                return []
            file.seek(self._starts[count])
            return [json.loads(file.readline()) for _ in range(count, last)]
