"""Figures of a study: the score against one option (the number of clients), a line for each value of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedumm.files import replacing
from fedumm.studies.results import ALL_COLUMNS, Row, Spread
from fedumm.studies.study import Study
from fedumm.studies.study_run import CENTRAL, FEDERATED, LOCAL_ONLY, ZERO_SHOT
from fedumm.studies.tables import score_name
from fedumm.texts import one_line

FIGURE = "figure"
_MARK = "fedumm sweep"
"""Stands in each figure, so that no file of somebody else's is taken for one."""
_STYLES = {FEDERATED: "o-", LOCAL_ONLY: "s--"}
_LEVEL = {CENTRAL: ("-.", "black"), ZERO_SHOT: (":", "gray")}
_ORDER = ("num_clients", "dirichlet_alpha")
_LABELS = {"num_clients": "clients", "dirichlet_alpha": "alpha"}

Points = list[tuple[Any, Spread]]


def axis_and_lines(study: Study) -> tuple[str, str]:
    """The option along the axis, and the one that tells lines apart; empty where there is none."""
    several = [name for name in study.varied if len(study.grid[name]) > 1]
    order = [name for name in _ORDER if name in several] + [name for name in several if name not in _ORDER]
    axis = next((name for name in order if all(type(value) in (int, float) for value in study.grid[name])), "")
    return axis, next((name for name in order if name != axis), "")


def save_figures(study: Study, rows: Sequence[Row], folder: Path) -> list[Path]:
    """A figure for each combination of the other options; none if no option has several numbers.

    Figures of an earlier table that this one has no more are deleted.

    Returns:
        The files: ``figure.png``, or ``figure-1.png`` and so on, each with its options as the title.
    """
    axis, lines = axis_and_lines(study)
    groups: dict[str, list[Row]] = {}
    for row in rows if axis else ():
        others = [f"{name}={row.setting[name]}" for name in study.varied if name not in (axis, lines)]
        groups.setdefault(" ".join(others), []).append(row)
    several = len(groups) > 1
    files = []
    for place, (title, own) in enumerate(groups.items(), start=1):
        files.append(folder / (f"{FIGURE}-{place}.png" if several else f"{FIGURE}.png"))
        _draw(curves(own, axis, lines), axis, title if several else "", score_name(study), files[-1])
    for old in {folder / f"{FIGURE}.png", *folder.glob(f"{FIGURE}-*.png")}.difference(files):
        if _is_ours(old):
            old.unlink()
    return files


def _is_ours(file: Path) -> bool:
    try:
        with open(file, "rb") as content:
            return _MARK.encode() in content.read(4096)
    except OSError:
        return False


def curves(rows: Sequence[Row], axis: str, lines: str) -> dict[tuple[str, str], Points]:
    """The points of each line by column and the line's value, sorted by the axis."""
    found: dict[tuple[str, str], Points] = {}
    for row in sorted(rows, key=lambda row: float(row.setting[axis])):
        value = f"{_LABELS.get(lines, lines)} {row.setting[lines]}" if lines else ""
        for column in (FEDERATED, LOCAL_ONLY, CENTRAL, ZERO_SHOT):
            if column in row.columns:
                found.setdefault((column, value), []).append((row.setting[axis], row.columns[column]))
    return found


def _draw(found: Mapping[tuple[str, str], Points], axis: str, title: str, score: str, path: Path) -> None:
    """Error bars are the standard deviation over seeds; what does not depend on the setting is one level."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    values = list(dict.fromkeys(value for column, value in found if column in _STYLES))
    for (column, value), points in found.items():
        label = one_line(" ".join(filter(None, (ALL_COLUMNS[column], value))), 60)
        x = [place for place, _ in points]
        y = [100 * own.mean for _, own in points]
        if column in _STYLES:
            around = [100 * (own.std or 0) for _, own in points]
            color = f"C{values.index(value) % 10}"
            axes.errorbar(x, y, around, fmt=_STYLES[column], color=color, capsize=3, label=label)
        elif value == (first := next(v for c, v in found if c == column)):
            style, color = _LEVEL[column]
            axes.plot(x, y, style, color=color, label=ALL_COLUMNS[column])
        elif y != [100 * own.mean for _, own in found[column, first]]:
            axes.plot(x, y, _LEVEL[column][0], label=label)
    if axis == "num_clients":
        axes.set_xscale("log", base=2)
        ticks = sorted({place for points in found.values() for place, _ in points})
        axes.set_xticks(ticks, list(map(str, ticks)))
        axes.minorticks_off()
    axes.set(xlabel=_LABELS.get(axis, axis), ylabel=f"{score} (%)")
    axes.set_title(one_line(title, 100), parse_math=False)
    axes.grid(alpha=0.3)
    legend = axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize="small")
    for text in legend.get_texts():
        text.set_parse_math(False)
    with replacing(path) as draft:
        figure.savefig(draft, dpi=150, format="png", metadata={"Source": _MARK})
