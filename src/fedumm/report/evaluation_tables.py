"""An evaluation on the screen."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedumm.formatting import CATEGORIES, percent
from fedumm.metrics.bootstrap import RESAMPLES, Estimate
from fedumm.metrics.confusion import Confusion
from fedumm.metrics.evaluation import Evaluation
from fedumm.report.evaluation_result import EvaluationResult, Measure
from fedumm.tasks import GENEVAL, TASKS
from fedumm.texts import one_line

MOST_TYPES = 12
_LONGEST = 24


def show(result: EvaluationResult, screen: Console) -> None:
    """Scores with intervals, by type, and the table of answers."""
    screen.print(_scores(result))
    for name, own in result.tasks.items():
        for what, types in (("answer type", own.answer_types), ("question type", own.question_types)):
            if len(types) > 1:
                screen.print(_by_type(f"{TASKS[name].score} by {what}", what, types))
        if own.confusion:
            screen.print(_answers(own.confusion))
    if result.geneval:
        screen.print(_drawn(result.geneval))
    count, how = result.estimate.groups, "images" if result.by_image else "samples"
    reason = (
        "whole images, since questions about one image are not independent"
        if result.by_image
        else "single samples, since images can't be told apart"
    )
    screen.print(
        f"Intervals: 95 %, bootstrap over {count:,} {how} ({RESAMPLES:,} draws of {reason}).",
        soft_wrap=True,
    )


def _scores(result: EvaluationResult) -> Table:
    table = Table("", "score", "95 % interval", "samples", "images", title="Result", title_justify="left")
    for name, own in result.tasks.items():
        table.add_row(TASKS[name].score, *_cells(own.whole))
        for other, value in own.others.items():
            known = next((known for known in TASKS[name].others if known.name == other), None)
            shown = percent(value) if known is None or known.highest == 1 else f"{value:.3f}"
            table.add_row(Text(f"  {known.label if known else one_line(other, _LONGEST)}"), shown, "", "", "")
    return table


def _by_type(title: str, what: str, types: Mapping[str, Measure]) -> Table:
    table = Table(what, "score", "95 % interval", "samples", "images", title=title, title_justify="left")
    for label, own in list(types.items())[:MOST_TYPES]:
        table.add_row(Text(CATEGORIES.get(label) or one_line(label, 40)), *_cells(own))
    if len(types) > MOST_TYPES:
        table.add_row(f"and {len(types) - MOST_TYPES} more", "", "", "", "")
    return table


def _cells(own: Measure) -> tuple[str, str, str, str]:
    shown, nats = own.shown, own.loss is not None
    return _number(shown.mean, nats), _interval(shown, nats), f"{shown.count:,}", f"{shown.groups:,}"


def _number(value: float, nats: bool) -> str:
    return f"{value:.3f} nats" if nats else percent(value)


def _interval(own: Estimate, nats: bool) -> str:
    if own.low is None or own.high is None:
        return "-"
    return f"{own.low:.3f} - {own.high:.3f}" if nats else f"{100 * own.low:.2f} - {100 * own.high:.2f}"


def _answers(own: Confusion) -> Table:
    labels = [Text(one_line(label, _LONGEST)) for label in own.labels]
    table = Table("right answer", title="What was said (columns) for what was right (rows)", title_justify="left")
    for label in labels:
        table.add_column(label, justify="right")
    for place, (label, row) in enumerate(zip(labels, own.counts, strict=True)):
        cells = [Text(f"{n:,}" if n else ".", style="bold" if column == place else "") for column, n in enumerate(row)]
        table.add_row(label, *cells)
    return table


def _drawn(own: Evaluation) -> Table:
    table = Table("category", "right", "images", title=GENEVAL.score, title_justify="left")
    for tag, (share, count) in own.parts.items():
        table.add_row(Text(CATEGORIES.get(tag) or one_line(tag, 40)), percent(share), f"{count:,}")
    table.add_section()
    table.add_row("overall (mean of categories)", percent(own.score), f"{own.count:,}")
    return table
