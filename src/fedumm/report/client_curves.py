"""Each client's own scores by round, beside those of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from fedumm.report.figures import Series, rounds_figure
from fedumm.tasks import TASKS, in_order
from fedumm.texts import one_line

_WHAT = "each client's own adapter, on its held-out data"

MOST_NAMED = 10
"""Of more clients the curves have no names: nobody tells so many colours apart."""

Curves = Mapping[str, Sequence[tuple[int, float]]]


def client_curves(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """By task and client: the round, and how the client's own adapter scores on its held-out data after its training.

    A score is a share, of ``t2i`` the cross-entropy.

    Args:
        records: those of clients.
    """
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for record in records:
        for task, entry in (record.get("heldout_after_tasks") or {}).items():
            value = entry.get("loss", entry.get("score"))
            if value is not None:
                own = found.setdefault(task, {}).setdefault(record["client"], [])
                own.append((record["round"], value))
    return {task: found[task] for task in in_order(found)}


def clients_figure(records: Sequence[Mapping[str, Any]], clients: Sequence[Mapping[str, Any]], title: str = "") -> Any:
    """The curves of a run, and to their right for each task those of its clients, as a figure of matplotlib.

    Args:
        records: those of rounds, and the last one.
        clients: those of clients.
    """
    panels = [partial(_draw, task, curves) for task, curves in client_curves(clients).items()]
    return rounds_figure(records, title, panels)[0]


def _draw(task: str, curves: Curves, axes: Any, series: Series, names: Mapping[str, str]) -> None:
    factor = 100 if TASKS[task].unit == "%" else 1
    few = len(curves) <= MOST_NAMED
    for place, points in enumerate(curves.values()):
        look = {"color": f"C{place}"} if few else {"color": "tab:blue", "alpha": 0.3}
        axes.plot([n for n, _ in points], [factor * value for _, value in points], "o-", ms=3, lw=1, **look)
    axes.set_ylabel(TASKS[task].label)
    if not few:
        axes.set_title(f"{_WHAT} ({len(curves):,} clients)", fontsize="small")
    else:
        lines = axes.get_lines()
        shown = [one_line(client, 30) for client in curves]
        legend = axes.legend(
            lines, map(str, range(len(lines))), loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4,
            frameon=False, fontsize="small", title=_WHAT, title_fontsize="small",
        )  # fmt: skip
        for text, name in zip(legend.get_texts(), shown, strict=True):
            text.set(text=name, parse_math=False)
