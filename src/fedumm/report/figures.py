"""Figures of a run. Each function also returns the table behind its picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fedumm.files import replacing
from fedumm.formatting import scorers_text
from fedumm.tasks import GENEVAL, I2T, T2I, VQA, Task
from fedumm.texts import one_line

Series = Mapping[str, Sequence[tuple[int, float]]]

Panel = Callable[[Any, Series, Mapping[str, str]], None]
"""Draws on axes of matplotlib: given them, the series, and what the curves are called."""

MAX_LABELS = 16
MAX_BARS = 100
LONGEST_LABEL = 40
LONGEST_TITLE = 90
OTHER = "other"


def _axes(width: float, height: float, panels: int = 1) -> tuple[Any, Any]:
    """A figure that needs no display and leaves pyplot's global state alone, and its ``panels`` side by side."""
    from fedumm.report.notebook_figure import NotebookFigure

    figure = NotebookFigure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def _save(figure: Any, path: Path) -> None:
    """Whole or not at all."""
    with replacing(path) as draft:
        figure.savefig(draft, dpi=150, format=path.suffix[1:])


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


def save_partition_figure(
    counts: Mapping[str, Mapping[str, int]], path: Path, title: str = ""
) -> tuple[list[str], list[list[int]]]:
    """Stacked bars: each client's training rows by label. Of many clients, only the outline of the bars."""
    labels, rows = label_table(counts)
    many = len(rows) > MAX_BARS
    height = max(1.6 + 0.32 * min(len(rows), MAX_BARS), 0.9 + 0.21 * len(labels))
    figure, (axes,) = _axes(8, height)
    _name(figure, title)
    palette = label_colours(labels)
    left = [0] * len(rows)
    for place in range(len(labels)):
        ends = [start + row[place] for start, row in zip(left, rows, strict=True)]
        if many:
            axes.fill_betweenx(range(1, len(rows) + 1), left, ends, label=str(place), color=palette[place], step="mid")
        else:
            widths = [row[place] for row in rows]
            axes.barh(range(len(rows)), widths, left=left, label=str(place), color=palette[place], ec="gray", lw=0.3)
        left = ends
    if many:
        axes.set_ylabel("client")
        axes.margins(y=0)
    else:
        axes.set_yticks(range(len(rows)), [_plain(client) for client in counts], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("training samples")
    axes.spines[["top", "right"]].set_visible(False)
    legend = axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize="small")
    for text, label in zip(legend.get_texts(), labels, strict=True):
        # Given to the bars, a label that begins with '_' would be left out.
        text.set(text=_plain(label), parse_math=False)
    _save(figure, path)
    return labels, rows


def _plain(label: str) -> str:
    """A label of the data as one short line: it may be a page long."""
    return one_line(label, LONGEST_LABEL)


def label_colours(labels: Sequence[str]) -> list[Any]:
    """A colour for each label; of a word for a colour, that colour (CSS), which no other label gets then."""
    from matplotlib import colormaps
    from matplotlib.colors import CSS4_COLORS, to_rgb

    own = {label: to_rgb(CSS4_COLORS[word]) for label in labels if (word := label.strip().lower()) in CSS4_COLORS}
    colors = [to_rgb(color) for color in colormaps["tab20"].colors]  # type: ignore[attr-defined]
    free = [color for color in colors[::2] + colors[1::2] if all(_apart(color, other) for other in own.values())]
    others = iter(free * len(labels))
    return [own.get(label) or next(others) for label in labels]


def _apart(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two colours (RGB, 0 to 1) are easily told apart."""
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) > 0.08


def _name(figure: Any, title: str) -> None:
    if title:
        figure.suptitle(one_line(title, LONGEST_TITLE), fontsize="medium", x=0.01, ha="left", parse_math=False)


_COLORS = {"heldout": "tab:blue", "test": "tab:green", "heldout_after": "tab:blue"}
_STYLES = {"heldout_after": ":"}


def scored_on(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What the curves of ``heldout`` and ``test`` are called."""
    counts = {len(r["heldout_clients"]) for r in records if r.get("heldout_clients")}
    roster = max((r["roster"] for r in records if "roster" in r), default=0)
    whose = scorers_text(counts, roster) if counts and roster else "all clients"
    return {
        "heldout": "clients' held-out data" if whose == "all clients" else f"held-out data of {whose}",
        "test": "common test set",
        "heldout_after": "held-out, after local training",
    }


_OF_ROUNDS = ("event", "round", "roster", "heldout_tasks", "heldout_after_tasks", "test_tasks", "train_losses")


def for_rounds_figure(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the figure of rounds takes of a record: with a thousand clients a record holds a thousand scores."""
    kept = {name: record[name] for name in _OF_ROUNDS if name in record}
    return kept | {"heldout_clients": range(len(record.get("heldout_clients") or ()))}


def rounds_table(records: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Series of (round, value) by name.

    ``heldout/<task>`` and ``test/<task>`` are those of the adapter after that many rounds: a share, or
    of ``t2i`` the cross-entropy; ``heldout_after/<task>`` those of the clients' own adapters at the end of the round,
    ``train_loss/<task>`` that of the round.
    """
    series: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        scored = {"round": -1, "final": 0}.get(record["event"])
        if scored is None:
            continue
        for name in _COLORS:
            for task, entry in (record.get(f"{name}_tasks") or {}).items():
                value = entry.get("loss", entry["score"])
                if value is not None:
                    after = 0 if name == "heldout_after" else scored
                    series.setdefault(f"{name}/{task}", []).append((record["round"] + after, value))
        for task, loss in (record.get("train_losses") or {}).items():
            if loss is not None:
                series.setdefault(f"train_loss/{task}", []).append((record["round"], loss))
    return series


def save_rounds_figure(
    records: Sequence[Mapping[str, Any]], path: Path, title: str = ""
) -> dict[str, list[tuple[int, float]]]:
    """Scores and training loss by round, a panel for each task; round 0 is the untrained adapter."""
    figure, series = rounds_figure(records, title)
    _save(figure, path)
    return series


def rounds_figure(
    records: Sequence[Mapping[str, Any]], title: str = "", more: Sequence[Panel] = ()
) -> tuple[Any, dict[str, list[tuple[int, float]]]]:
    """What :func:`save_rounds_figure` saves, as a figure of matplotlib with the series that are drawn.

    Args:
        more: panels to the right of the tasks'.
    """
    series = rounds_table(records)
    return _curves(series, scored_on(records), "round", "train_loss", title, more), series


def _curves(
    series: Series, names: Mapping[str, str], step: str, told: str, title: str, more: Sequence[Panel] = ()
) -> Any:
    """A figure; ``told``: the kind of series that every task of the run has."""
    draws = any(name.endswith(f"/{T2I.name}") for name in series)
    writes = f"{told}/{I2T.name}" in series
    answers = f"{told}/{VQA.name}" in series or not (draws or writes)
    panels: list[Panel] = (
        [partial(_draw_scores, VQA)] * answers + [partial(_draw_scores, I2T)] * writes + [_draw_images] * draws
    )
    panels += more
    figure, axes = _axes(7 * len(panels), 4, len(panels))
    _name(figure, title)
    for draw, own in zip(panels, axes, strict=True):
        draw(own, series, names)
        own.set_xlabel(step)
        own.xaxis.get_major_locator().set_params(integer=True)
        own.grid(alpha=0.3)
    return figure


def save_epochs_figure(
    records: Sequence[Mapping[str, Any]], path: Path, title: str = ""
) -> dict[str, list[tuple[int, float]]]:
    """As :func:`save_rounds_figure`, of the records ``epoch`` of a central run."""
    figure, series = epochs_figure(records, title)
    _save(figure, path)
    return series


def epochs_figure(
    records: Sequence[Mapping[str, Any]], title: str = ""
) -> tuple[Any, dict[str, list[tuple[int, float]]]]:
    """What :func:`save_epochs_figure` saves, as a figure of matplotlib with the series that are drawn."""
    rounds = [{**r, "event": "final", "round": r["epoch"]} for r in records if r["event"] == "epoch"]
    series, names = rounds_table(rounds), {"heldout": "held-out", "heldout_after": "", "test": "test set"}
    return _curves(series, names, "epoch", "test", title), series


def _plot(axes: Any, points: Sequence[tuple[int, float]], style: str, factor: float = 1.0, **look: Any) -> None:
    if points:
        x, y = zip(*points, strict=True)
        axes.plot(x, [factor * value for value in y], style, **look)


def _legend(*axes: Any) -> None:
    lines = [line for own in axes for line in own.get_lines()]
    if lines:
        axes[0].legend(
            lines, [line.get_label() for line in lines], loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2,
            frameon=False, fontsize="small",
        )  # fmt: skip


def _draw_scores(task: Task, axes: Any, series: Series, names: Mapping[str, str]) -> None:
    """Scores in percent (left axis) and training loss (right axis)."""
    for name, color in _COLORS.items():
        points = series.get(f"{name}/{task.name}", ())
        _plot(axes, points, f"o{_STYLES.get(name, '-')}", 100, color=color, label=names.get(name), ms=4)
    axes.set_ylabel(task.label)
    right = axes.twinx()
    _plot(right, series.get(f"train_loss/{task.name}", ()), "s--", color="tab:gray", label="training loss (right axis)")
    right.set_ylabel("training loss (nats)")
    right.set_ylim(bottom=0)
    _legend(axes, right)


def _draw_images(axes: Any, series: Series, names: Mapping[str, str]) -> None:
    """Cross-entropy of image tokens (left axis) and GenEval (right axis)."""
    for name, color in _COLORS.items():
        points = series.get(f"{name}/{T2I.name}", ())
        _plot(axes, points, f"o{_STYLES.get(name, '-')}", color=color, label=names.get(name), ms=4)
    _plot(axes, series.get(f"train_loss/{T2I.name}", ()), "s--", color="tab:gray", label="training loss")
    axes.set_ylabel(T2I.label)
    right = axes.twinx()
    drawn = series.get(f"test/{GENEVAL.name}", ())
    _plot(right, drawn, "^-", 100, color="tab:orange", label=f"{GENEVAL.score} (right axis)")
    right.set(ylabel=GENEVAL.label, ylim=(0, 100))
    _legend(axes, right)
