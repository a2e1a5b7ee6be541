"""Figures as inline SVG: drawn by matplotlib, coloured and lettered by the page's own style, in light and in dark."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup, escape

from fedumm.report.page.history import Point

PALETTE = 8
"""Colours of lines, ``--c1`` to ``--c8`` of the page's style."""

_INK, _GRID, _FAINT = "#010101", "#020202", "#030303"
_MANY_BARS = 80
_SIZE = (4.7, 2.4)
"""Inches. A figure is shown from about 370 pixels (telephones) to 540."""

_LETTERS = 7.6


def color(number: int) -> str:
    """The style's name of the colour of series ``number``, from 0."""
    return f"var(--c{number % PALETTE + 1})"


@dataclass(frozen=True)
class Line:
    """A line of a figure, or a part of its stacked bars.

    Attributes:
        name: in the legend.
        points: pairs of x and y.
        number: says its colour, see :func:`color`.
        dashed: whether it is drawn so.
        faint: it is one of too many to be told apart.
    """

    name: str
    points: Sequence[Point] = field(repr=False)
    number: int = 0
    dashed: bool = False
    faint: bool = False

    @property
    def color(self) -> str:
        """For the legend."""
        return "var(--faint)" if self.faint else color(self.number)


@dataclass(frozen=True)
class Chart:
    """A figure with what belongs to it.

    Attributes:
        title: says what is seen.
        svg: the figure.
        legend: its lines that have a name of their own.
        note: what more there is to say.
    """

    title: str
    svg: Markup = field(repr=False)
    legend: Sequence[Line] = ()
    note: str = ""


def line_chart(
    title: str, lines: Sequence[Line], y: str, x: str = "round", *, percent: bool = False, zero: bool = False,
    note: str = "",
) -> Chart | None:  # fmt: skip
    """Lines over whole numbers; None if there is no point.

    Args:
        y: what the vertical axis shows.
        percent: shares are shown in percent.
        zero: the vertical axis begins at 0.
    """
    shown = [line for line in lines if line.points]
    if not shown:
        return None
    figure, axes = _axes()
    for line in shown:
        xs, ys = zip(*line.points, strict=True)
        values = [100 * value for value in ys] if percent else ys
        tint = _FAINT if line.faint else _hex(line.number)
        axes.plot(
            xs, values, "--" if line.dashed else "-", color=tint, lw=0.7 if line.faint else 1.6,
            marker="" if line.faint or len(xs) > 40 else "o", ms=3.2, clip_on=False, zorder=2 if line.faint else 3,
        )  # fmt: skip
    if zero:
        axes.set_ylim(bottom=0)
    named = [line for line in shown if line.name]
    return Chart(title, _svg(figure, axes, x, f"{y} (%)" if percent else y, title), named, note)


def bar_chart(title: str, parts: Sequence[Line], y: str, x: str = "round", *, note: str = "") -> Chart | None:
    """Stacked bars over whole numbers; of many, their outline. None if there is nothing in them."""
    places = sorted({x for part in parts for x, _ in part.points})
    if not any(value > 0 for part in parts for _, value in part.points):
        return None
    figure, axes = _axes()
    bottom = [0.0] * len(places)
    for part in parts:
        values = dict(part.points)
        tops = [low + max(0.0, values.get(place, 0.0)) for place, low in zip(places, bottom, strict=True)]
        if len(places) > _MANY_BARS:
            axes.fill_between(places, bottom, tops, color=_hex(part.number), lw=0, step="mid")
        else:
            heights = [top - low for top, low in zip(tops, bottom, strict=True)]
            axes.bar(places, heights, 0.72, bottom=bottom, color=_hex(part.number), lw=0)
        bottom = tops
    if len(places) < 3:
        axes.set_xlim(min(places) - 1.5, max(places) + 1.5)
    return Chart(title, _svg(figure, axes, x, y, title), list(parts), note)


def _hex(number: int) -> str:
    """A colour that stands for :func:`color` until the SVG is written."""
    return f"#0a0b{number % PALETTE + 1:02x}"


def _axes() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Any, axes: Any, x: str, y: str, title: str) -> Markup:
    """The figure's SVG as a part of an HTML page: it has no address in it, and no text of others."""
    from matplotlib import rc_context
    from matplotlib.ticker import MaxNLocator

    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=_GRID, linewidth=0.8)
    axes.tick_params(colors=_INK, color=_GRID, labelsize=_LETTERS, length=3, width=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y", color=_GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(x, color=_INK, fontsize=_LETTERS)
    axes.set_ylabel(y, color=_INK, fontsize=_LETTERS)
    file = io.StringIO()
    # The salt makes names within a figure the same each time, and others than those of the page's other figures.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif"}):
        empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=empty)
    return Markup(_for_html(file.getvalue(), title))


def _for_html(svg: str, title: str) -> str:
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    first, rest = text.split(">", 1)
    first = re.sub(r'\s(xmlns(:\w+)?|width|height|version)="[^"]*"', "", first)
    text = f'{first} role="img" aria-label="{escape(title)}">{rest}'.replace("xlink:href", "href")
    names = {_INK: "var(--muted)", _GRID: "var(--line)", _FAINT: "var(--faint)"}
    for placeholder, name in (names | {_hex(number): color(number) for number in range(PALETTE)}).items():
        text = text.replace(placeholder, name)
    # The letters are the page's own.
    return re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
