"""Figures of a run. Each function also returns the table behind its picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MAX_LABELS = 16
MAX_BARS = 100
OTHER = "other"


def _axes(width: float, height: float) -> tuple[Any, Any]:
    """A figure that needs no display and leaves pyplot's global state alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _save(figure: Any, path: Path) -> None:
    """Whole or not at all."""
    draft = path.with_name(f".draft-{path.name}")
    figure.savefig(draft, dpi=150)
    os.replace(draft, path)


def label_table(counts: Mapping[str, Mapping[str, int]]) -> tuple[list[str], list[list[int]]]:
    """The most frequent labels (the rest as ``other``), and one row of counts per client."""
    totals: dict[str, int] = {}
    for own in counts.values():
        for label, count in own.items():
            totals[label] = totals.get(label, 0) + count
    labels = sorted(totals, key=lambda name: (-totals[name], name))
    shown = labels if len(labels) <= MAX_LABELS else labels[: MAX_LABELS - 1]
    rows = []
    for own in counts.values():
        row = [own.get(label, 0) for label in shown]
        rows.append(row if len(shown) == len(labels) else [*row, sum(own.values()) - sum(row)])
    return (shown if len(shown) == len(labels) else [*shown, OTHER]), rows


def save_partition_figure(counts: Mapping[str, Mapping[str, int]], path: Path) -> tuple[list[str], list[list[int]]]:
    """Stacked bars: each client's training rows by label. Of many clients, only the outline of the bars."""
    labels, rows = label_table(counts)
    many = len(rows) > MAX_BARS
    figure, axes = _axes(8, 1.6 + 0.32 * min(len(rows), MAX_BARS))
    palette = _palette(len(labels))
    left = [0] * len(rows)
    for place, label in enumerate(labels):
        ends = [start + row[place] for start, row in zip(left, rows, strict=True)]
        if many:
            axes.fill_betweenx(range(1, len(rows) + 1), left, ends, label=label, color=palette[place], step="mid")
        else:
            widths = [row[place] for row in rows]
            axes.barh(list(counts), widths, left=left, label=label, color=palette[place], edgecolor="white", lw=0.4)
        left = ends
    if many:
        axes.set_ylabel("client")
        axes.margins(y=0)
    axes.invert_yaxis()
    axes.set_xlabel("training samples")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize="small")
    _save(figure, path)
    return labels, rows


def _palette(count: int) -> list[Any]:
    from matplotlib import colormaps

    colors = colormaps["tab20"].colors  # type: ignore[attr-defined]
    return [colors[(2 * i) % 20 + (2 * i) // 20 % 2] for i in range(count)]


def rounds_table(records: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Series of (round, value): ``heldout`` and ``test`` of the adapter after that many rounds, ``train_loss``."""
    series: dict[str, list[tuple[int, float]]] = {"heldout": [], "test": [], "train_loss": []}
    for record in records:
        scored = {"round": -1, "final": 0}.get(record["event"])
        if scored is None:
            continue
        for name in ("heldout", "test"):
            if record.get(name) is not None:
                series[name].append((record["round"] + scored, record[name]))
        if record.get("train_loss") is not None:
            series["train_loss"].append((record["round"], record["train_loss"]))
    return series


def save_rounds_figure(records: Sequence[Mapping[str, Any]], path: Path) -> dict[str, list[tuple[int, float]]]:
    """Score (left axis) and training loss (right axis) by round; round 0 is the untrained adapter."""
    series = rounds_table(records)
    figure, axes = _axes(7, 4)
    for name, text, color in (
        ("heldout", "clients' held-out data", "tab:blue"),
        ("test", "common test set", "tab:green"),
    ):
        if series[name]:
            x, y = zip(*series[name], strict=True)
            axes.plot(x, [100 * v for v in y], "o-", color=color, label=text)
    axes.set(xlabel="round", ylabel="accuracy (%)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if series["train_loss"]:
        right = axes.twinx()
        x, y = zip(*series["train_loss"], strict=True)
        right.plot(x, y, "s--", color="tab:gray", label="training loss (right axis)")
        right.set_ylabel("training loss (nats per answer)")
        right.set_ylim(bottom=0)
    if axes.lines:
        figure.legend(loc="outside upper center", ncols=3, frameon=False)
    axes.grid(alpha=0.3)
    _save(figure, path)
    return series
