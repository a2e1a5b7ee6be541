"""What a run shows on screen: a line per round, what is being done now, a closing summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from fedumm.features.report import CacheReport
from fedumm.formatting import cut_text, epsilon_text, others_text, percent, score_text, scorers_text, scores_text
from fedumm.report.notebook_line import NotebookLine
from fedumm.report.time_left import TimeLeft
from fedumm.shell import quoted
from fedumm.tasks import GENEVAL, T2I, TASKS, in_order
from fedumm.texts import one_line

_COLUMNS = {
    "round": 7, "clients": 7, "train loss": 10, "held-out": 8, "after training": 14, "common test": 11,
    "MB down": 8, "MB up": 8, "seconds": 7, "time left": 9,
}  # fmt: skip
_SAMPLED = {
    "round": 7, "clients": 7, "train loss": 10, "held-out": 8, "before": 8, "after": 8, "common test": 11,
    "MB down": 7, "MB up": 6, "seconds": 7, "time left": 9,
}  # fmt: skip
"""Where others than those who score every round train in each. With an extra column, 120 wide."""

_LEAST = ("MB up", "MB down", "seconds", "clients", "agg. error", "train loss", "before", "after", "after training")
"""Columns that a narrow screen does without, the first ones first; they are in metrics.jsonl."""

_GAP = 2

NO_BETTER = (
    "Nothing was better than the untrained adapter: train for longer (more rounds or epochs), or try another --lr."
)

_EXTRAS = {"aggregation_error": "agg. error", "epsilon": "epsilon"}
"""Columns of runs that have such numbers."""

_EXTRAS_TEXT: dict[str, Callable[[float], str]] = {"aggregation_error": "{:.3g}".format, "epsilon": epsilon_text}

_DROWNED = ". Little of it will be left: more clients, a lower --lora_r or --aggregator ffa_lora would help"

_SCORES = {"heldout": "held-out", "heldout_after": "after training", "test": "common test"}
_SAMPLED_SCORES = {"heldout": "held-out", "heldout_before": "before", "heldout_after": "after", "test": "common test"}
_PLAIN_EVERY = 30.0

_ENDS = ("round", "repeat", "final")
"""Records after the last of a round's clients."""

_MOST_LINES = 10
"""Lines of a kind in a round: of a thousand clients some hundreds may fail."""

_LONGEST = 5000
"""Characters of a line: our own sentences have their bounded texts of others in them, and paths."""

_ROUNDING = 1e-4
"""The share of a round's result that float32 weights may lose: they are thousands of times as large."""


class Screen(Console):
    """Rich's console, without its colours for numbers, and without its markup: what is shown has names and labels of
    others in it. A reader that has gone is an error, and not an exit."""

    def __init__(self, width: int | None = None, stderr: bool = False) -> None:
        super().__init__(width=width, stderr=stderr, highlight=False, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """Called by rich while it handles a :class:`BrokenPipeError`: the command line knows what to do."""
        raise


class RunConsole:
    """Shows records and progress. On a terminal the present work is a moving bar at the bottom, in a notebook a line
    that changes; elsewhere (a log file) it is a plain line now and then.

    Of a table that is wider than a terminal, some columns are left out. ``time_left`` tells how long the run takes
    while no round is over.

    ``held-out`` and ``common test`` score the global adapter that the round starts from,
    ``after training`` the clients' own adapters after local training. Where a few clients are drawn for a round, lines
    above the table say which numbers are whose.
    """

    def __init__(self, console: Console | None = None, time_left: TimeLeft | None = None) -> None:
        self.console = console or Screen()
        self._time_left = time_left
        self._notebook = NotebookLine() if self.console.is_jupyter else None
        self._live = self.console.is_terminal and not self._notebook
        self._bars: dict[str, TaskID] = {}
        self._last_plain = time.monotonic()
        self._header, self._widths, self._scores = False, dict(_COLUMNS), _SCORES
        self._wide: dict[str, int] = {}
        self._setup_seconds = 0.0
        self._said: dict[str, int] = {}
        self._progress = Progress(
            TextColumn("  {task.description}", markup=False), BarColumn(bar_width=30),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"), TimeRemainingColumn(),
            console=self.console, transient=True, disable=not self._live,
        )  # fmt: skip

    def __enter__(self) -> RunConsole:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if self._notebook:
            self._notebook.clear()

    def line(self, text: str) -> None:
        """Print one line above the bars."""
        self.console.print(one_line(text, _LONGEST), soft_wrap=True, markup=False)

    def progress(self, text: str, done: int, total: int, host: str = "") -> None:
        """Show what a host is doing now."""
        if self._time_left:
            self._time_left.note(host, text, done, total)
            seconds = self._time_left.seconds()
            text = text if seconds is None else f"{text}  (about {duration(seconds)} left in all)"
        if self._notebook:
            self._notebook.show(text, done, total, host)
        elif self._live:
            if host and "" in self._bars:
                self._progress.remove_task(self._bars.pop(""))
            if host not in self._bars:
                self._bars[host] = self._progress.add_task("", total=total)
            shown = f"{host}: {text}" if len(self._bars) > 1 else text
            self._progress.update(self._bars[host], description=one_line(shown), completed=done, total=total)
        elif time.monotonic() - self._last_plain > _PLAIN_EVERY:
            self._last_plain = time.monotonic()
            self.line(f"  ... {text}  {done:,}/{total:,}")

    def show(self, record: Mapping[str, Any]) -> None:
        """Show one record of ``metrics.jsonl``."""
        if record["event"] in _ENDS:
            self._count_others(record["round"])
        shower = getattr(self, f"_{record['event']}", None)
        if shower:
            self._last_plain = time.monotonic()
            shower(record)

    def _drawn(self, r: Mapping[str, Any]) -> None:
        own = r["test_tasks"][GENEVAL.name]
        what = f"{GENEVAL.score} of the best adapter (after round {r['round']})"
        self.line(f"{what} on {own['count']} images: {percent(own['score'])}")

    def _setup(self, r: Mapping[str, Any]) -> None:
        self._setup_seconds = r["seconds"]
        if self._time_left:
            self._time_left.begin(r)
        train = sum(c["train"] for c in r["clients"].values())
        held = sum(c["heldout"] for c in r["clients"].values())
        self.line(
            f"{len(r['clients'])} clients on {len(r['hosts'])} host(s): {train:,} training and {held:,} held-out "
            f"samples, {r['test_samples']:,} common test samples"
        )
        share = 100 * r["trainable"] / r["total"]
        self.line(
            f"trainable: {r['trainable']:,} / {r['total']:,} ({share:.4f}%); "
            f"the adapter is {r['adapter_bytes'] / 1e6:.2f} MB on the wire"
        )
        for line in r["findings"]:
            self.line(line)
        for line in filter(None, (CacheReport(**report).describe() for report in r["features"])):
            self.line(line)
        if noise := r.get("noise"):
            self.line(
                f"privacy: the noise on a round's mean update has a norm of about {noise['norm']:.3g}; without it, "
                f"that is at most {noise['clip']:.3g}{_DROWNED if noise['norm'] > noise['clip'] else ''}"
            )
        tasks = in_order(task for c in r["clients"].values() for task in c["tasks"])
        for task in tasks if len(tasks) > 1 else ():
            having = [c["tasks"][task] for c in r["clients"].values() if task in c["tasks"]]
            self.line(f"{task}: {sum(having):,} training samples on {len(having)} client(s)")
        if T2I.name in tasks:
            names = *_SCORES.values(), *_SAMPLED_SCORES.values(), "train loss"
            self._wide = dict.fromkeys(names, 10 * len(tasks) + 2)

    def _row(self, cells: Mapping[str, str]) -> None:
        self.line((" " * _GAP).join(cells[name].rjust(width) for name, width in self._widths.items()))

    def _fit(self) -> None:
        """Leave out what a terminal has no room for; in a file, lines are as long as they are."""
        left_out = []
        for name in _LEAST if self._live else ():
            if sum(self._widths.values()) + _GAP * (len(self._widths) - 1) <= self.console.width:
                break
            if self._widths.pop(name, None):
                left_out.append(name)
        if left_out:
            self.line(f"(no room here for {', '.join(reversed(left_out))}: see metrics.jsonl, or a wider terminal)")

    def _client(self, r: Mapping[str, Any]) -> None:
        if r["rejected"]:
            self._few("rejected", f"  round {r['round']}: {r['client']} rejected: {r['reason']}")

    def _few(self, kind: str, text: str) -> None:
        """Of many lines of a kind in a round, the first; the number of the others follows."""
        self._said[kind] = self._said.get(kind, 0) + 1
        if self._said[kind] <= _MOST_LINES:
            self.line(text)

    def _count_others(self, round_number: int) -> None:
        for kind, count in self._said.items():
            if count > _MOST_LINES:
                self.line(f"  round {round_number}: {count - _MOST_LINES} more {kind}; all are in metrics.jsonl")
        self._said.clear()

    def _unusual(self, r: Mapping[str, Any]) -> None:
        self._few("unusual", f"  round {r['round']}: {r['client']} counts, but is unusual: {r['text']}")

    def _cut(self, r: Mapping[str, Any]) -> None:
        self._few("cut short", f"  round {r['round']}: {cut_text(r['client'], r['steps'], r['planned'])}")

    def _warning(self, r: Mapping[str, Any]) -> None:
        self.line(r["text"])

    _round_minutes = _masked = _warning

    def _note(self, r: Mapping[str, Any]) -> None:
        self._few("notes", f"  round {r['round']}: {r['host']}: {r['text']}")

    def _left_out(self, r: Mapping[str, Any]) -> None:
        self.line(f"  {r['host']} is left out of this run: {r['reason']}")

    def _not_ready(self, r: Mapping[str, Any]) -> None:
        self.line(f"  {r['host']} is not ready yet: {r['reason']}")

    def _repeat(self, r: Mapping[str, Any]) -> None:
        self.line(f"  round {r['round']}: {r['usable']} usable update(s) of the {r['needed']} that it needs: once more")

    def _patience(self, r: Mapping[str, Any]) -> None:
        what = f"the one after round {r['best']}" if r["best"] else "the untrained one"
        self.line(f"  stopping after round {r['round']}: no adapter was better than {what} since then (--patience)")

    def _resumed(self, r: Mapping[str, Any]) -> None:
        self.line(f"  resumed after round {r['round']}")

    def _begin_table(self, r: Mapping[str, Any]) -> None:
        drawn, roster, widths = r["clients_per_round"], r["roster"], dict(_COLUMNS)
        if drawn < roster and r.get("epsilon") is not None:
            self.line(
                "held-out, after training: the clients of the round; with privacy, no adapter is chosen by scores"
            )
        elif drawn < roster:
            widths, self._scores = dict(_SAMPLED), _SAMPLED_SCORES
            panel = scorers_text([len(r["heldout_clients"]) + len(r["heldout_missing"])], roster)
            self.line(f"held-out: {panel}, the same in every round; the best adapter is chosen by it")
            self.line(f"before, after: before and after local training, the {drawn} client(s) of the round")
        widths |= {name: width for name, width in self._wide.items() if name in widths}
        self._widths = widths | {text: 10 for name, text in _EXTRAS.items() if r.get(name) is not None}
        self._fit()
        self._row({name: name for name in self._widths})
        self._header = True

    def _round(self, r: Mapping[str, Any]) -> None:
        self._time_left = None
        if not self._header:
            self._begin_table(r)
        left = (r["elapsed"] - self._setup_seconds) / r["round"] * (r["rounds"] - r["round"])
        losses = [r["train_losses"][task] for task in in_order(r["train_losses"])]
        loss = "  ".join("-" if value is None else f"{value:.4f}" for value in losses)
        self._row(
            {
                "round": f"{r['round']}/{r['rounds']}", "clients": str(r["clients"]), "train loss": loss or "-",
                **{column: scores_text(r, name) for name, column in self._scores.items()},
                **{text: "-" if r.get(name) is None else _EXTRAS_TEXT[name](r[name]) for name, text in _EXTRAS.items()},
                "MB down": f"{r['bytes_down'] / 1e6:.2f}", "MB up": f"{r['bytes_up'] / 1e6:.2f}",
                "seconds": f"{r['seconds']:.1f}", "time left": duration(left),
            }
        )  # fmt: skip
        if drawn := r["test_tasks"].get(GENEVAL.name):
            self.line(f"{'':9}{GENEVAL.score} on {drawn['count']} images before it: {percent(drawn['score'])}")
        if kept := r.get("kept_back"):
            self.line(f"{'':9}{kept} tensor(s) kept as they were: half of the clients or fewer trained them")
        if missing := r["heldout_missing"]:
            scored = len(r["heldout_clients"])
            self.line(f"{'':9}held-out without {len(missing)} of its {scored + len(missing)} clients in this round")

    def _folded(self, r: Mapping[str, Any]) -> None:
        if r["folding_error"] > _ROUNDING:
            lost = f"{100 * r['folding_error']:.2g} % of its result was lost on the hosts"
            self.line(
                f"  round {r['round']}: {lost}, to the rounding of their weights; its error above is without that"
            )

    def _summary(self, r: Mapping[str, Any]) -> None:
        rows = {
            "untrained": r["untrained"],
            f"best (after round {r['best']['round']})": r["best"],
            f"last (after round {r['last']['round']})": r["last"],
        }
        columns = [
            (place, task)
            for place in ("heldout", "test")
            for task in TASKS
            if any(task in entry[f"{place}_tasks"] for entry in rows.values())
        ]
        headings = [f"{_SCORES[place]}\n{TASKS[task].score}" for place, task in columns]
        # Who scored them is in the title, if it is the same for all.
        scorers = [entry["heldout_clients"].keys() for entry in rows.values()]
        whose = [scorers_text([len(own)], r["roster"]) for own in scorers]
        same = all(own == scorers[0] for own in scorers)
        title = f"Result (held-out: {whose[0]})" if same and 0 < len(scorers[0]) < r["roster"] else "Result"
        table = Table("adapter", *headings, title=title, title_justify="left")
        for (name, entry), own in zip(rows.items(), whose, strict=True):
            note = f"\n  held-out: {own}" if not same and entry["heldout_clients"] else ""
            table.add_row(name + note, *(score_text(entry[f"{place}_tasks"].get(task)) for place, task in columns))
        self.console.print(table)
        if not r["best"]["round"] and r["last"]["round"]:
            self.line(NO_BETTER)
        if GENEVAL.name in r["untrained"]["test_tasks"] and GENEVAL.name not in r["best"]["test_tasks"]:
            self.line("Nothing was drawn with the best adapter: see fedumm geneval, and --geneval_every 1")
        for name, entry in rows.items():
            for place in ("heldout", "test"):
                if others := others_text(entry, place):
                    self.line(f"{name}, {_SCORES[place]}: {others}")

    def finished(
        self, folder: Path, summary: Mapping[str, Any] | None, tasks: Sequence[str] = (), own: bool = False
    ) -> None:
        """Say where things are, and how to use the adapter for ``tasks``; with ``own`` each client has its own."""
        if summary:
            self._summary(summary)
        events = ", tensorboard/" if (folder / "tensorboard").is_dir() else ""
        self.line(f"Run folder: {folder} (metrics.jsonl, partition.png, rounds.png{events})")
        best = folder / "clients" / "NAME" / "adapter" if own else folder / "adapter" / "best"
        self.line(f"Adapter:    {best}")
        for task in (TASKS[name] for name in tasks):
            self.line(f"{task.invitation:<11} fedumm {task.example} --adapter {quoted(best)}")


def duration(seconds: float) -> str:
    """Seconds as ``42 s``, ``3 min`` or ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
