"""Scores for the page: headline, table of versions, answer types, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedumm.formatting import CATEGORIES, others_text, percent, score_text
from fedumm.report.page.charts import Chart, Line, line_chart
from fedumm.report.page.history import History, Point, mapping, number
from fedumm.step_losses import read_losses
from fedumm.tasks import GENEVAL, I2T, T2I, TASKS, in_order

PLACES = {"test": "common test set", "heldout": "clients' held-out data"}
CENTRAL_PLACES = {"test": "test set"}
ALONE_PLACES = {"test": "common test set, mean of clients", "heldout": "clients' held-out data, mean of clients"}
_FEW = 16
"""Clients that each get a line of a colour of their own."""


@dataclass(frozen=True)
class Tile:
    """A number of the headline.

    Attributes:
        label: what it is.
        value: as it is now.
        before: as it was, if that is known.
        note: what else there is to say.
        tone: ``good``, ``bad`` or empty.
    """

    label: str
    value: str
    before: str = ""
    note: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Part:
    """An answer type, before and after; shares from 0 to 1."""

    name: str
    before: float
    after: float

    @property
    def texts(self) -> tuple[str, str]:
        """Both in percent."""
        return percent(self.before), percent(self.after)


def entry(record: Mapping[str, Any], place: str, task: str) -> dict[str, Any] | None:
    """The scores of ``task`` on ``test`` or ``heldout``, if they are numbers."""
    own = mapping(mapping(record.get(f"{place}_tasks")).get(task))
    score, loss = number(own.get("score")), number(own.get("loss"))
    if score is None:
        return None
    return {"score": score, "loss": loss, "parts": _numbers(own.get("parts")), "others": _numbers(own.get("others"))}


def _numbers(values: object) -> dict[str, float]:
    return {str(name): found for name, value in mapping(values).items() if (found := number(value)) is not None}


def places(history: History) -> dict[str, str]:
    """What the run was scored on."""
    return {"federated": PLACES, "central": CENTRAL_PLACES, "local": ALONE_PLACES}[history.run.kind]


def trained(history: History) -> str:
    """What the adapter that is compared with the untrained one is called."""
    return {"federated": "best", "central": "trained", "local": "trained alone"}[history.run.kind]


def scored_tasks(history: History, place: str) -> list[str]:
    """Those that have scores."""
    records = history.run.scores.values()
    return in_order(task for record in records for task in mapping(record.get(f"{place}_tasks")) if task in TASKS)


def tiles(history: History) -> list[Tile]:
    """From untrained to best, each task on each kind of data."""
    scores, found = history.run.scores, []
    for place, where in places(history).items():
        for task in scored_tasks(history, place):
            before, after = (entry(scores.get(name, {}), place, task) for name in ("untrained", "best"))
            if after is None:
                continue
            label = f"{TASKS[task].score[0].upper()}{TASKS[task].score[1:]}, {where}"
            found.append(Tile(label, score_text(after), score_text(before) if before else "", *_change(before, after)))
    return found


def _change(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> tuple[str, str]:
    """In words, and whether it is for the better."""
    if before is None:
        return "", ""
    lower = after["loss"] is not None and before["loss"] is not None
    change = after["loss"] - before["loss"] if lower else 100 * (after["score"] - before["score"])
    text = f"{change:+.3f} nats (lower is better)" if lower else f"{change:+.2f} points"
    if not change:
        return text, ""
    return text.replace("-", "\N{MINUS SIGN}"), "good" if (change < 0) == lower else "bad"


def versions_table(history: History) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: untrained, best, last."""
    columns = [(place, task) for place in places(history) for task in scored_tasks(history, place)]
    headings = ["adapter", *(f"{TASKS[task].score}, {places(history)[place]}" for place, task in columns)]
    unit = "epoch" if history.run.kind == "central" else "round"
    rows, names = [], {"untrained": "untrained", "best": "best", "last": "last"}
    if history.run.kind != "federated":
        names = {"untrained": "untrained", "last": trained(history)}
    for name, shown in names.items():
        record = history.run.scores.get(name)
        if record:
            version = number(record.get("round"))
            after = f" (after {unit} {version:.0f})" if version and name != "untrained" else ""
            rows.append([f"{shown}{after}", *(score_text(entry(record, *column)) for column in columns)])
            for place, where in places(history).items():
                if others := _others(history, record, place):
                    rows.append([f"{shown}, {where}", others])
    return headings, rows


def _others(history: History, record: Mapping[str, Any], place: str) -> str:
    own = {task: entry(record, place, task) for task in scored_tasks(history, place)}
    return others_text({f"{place}_tasks": {task: found for task, found in own.items() if found}}, place)


def parts(history: History) -> list[tuple[str, list[Part]]]:
    """By task and data, each answer type or category before and after; of tasks with two of them at least."""
    found = []
    for place, where in places(history).items():
        for task in scored_tasks(history, place):
            before, after = (entry(history.run.scores.get(name, {}), place, task) for name in ("untrained", "best"))
            if not before or not after:
                continue
            both = [name for name in after["parts"] if name in before["parts"]]
            rows = [Part(CATEGORIES.get(name, name), before["parts"][name], after["parts"][name]) for name in both]
            if len(rows) > 1 and min(min(row.before, row.after) for row in rows) >= 0:
                what = "share of the surprise spared" if task == T2I.name else TASKS[task].score
                found.append((f"{what}, {where}", rows[:20]))
    return found


def curves(history: History) -> list[Chart | None]:
    """Scores and losses by version of the adapter."""
    series: dict[tuple[str, str], list[Point]] = {}
    for version, record in history.versions:
        for place in places(history):
            for task in in_order(mapping(record.get(f"{place}_tasks"))):
                own = entry(record, place, task)
                if own and task in TASKS:
                    value = own["score"] if own["loss"] is None else own["loss"]
                    series.setdefault((place, task), []).append((version, value))
    for record in history.rounds:
        for task in in_order(mapping(record.get("heldout_after_tasks"))):
            own = entry(record, "heldout_after", task)
            if own and task in TASKS:
                value = own["score"] if own["loss"] is None else own["loss"]
                series.setdefault(("heldout_after", task), []).append((int(record["round"]), value))
    unit = "epoch" if history.run.kind == "central" else "round"
    names = {**places(history), "heldout_after": "held-out, after local training"}
    charts = []
    for task in in_order({task for _, task in series}):
        lines = [
            Line(name, series.get((place, task), ()), number, place == "heldout_after")
            for number, (place, name) in enumerate(names.items())
        ]
        nats = TASKS[task].unit == "nats"
        title = f"{TASKS[task].score[0].upper()}{TASKS[task].score[1:]} by {unit}"
        label = "cross-entropy (nats)" if nats else TASKS[task].score
        charts.append(line_chart(title, lines, label, f"after {unit}", percent=not nats))
    return [*charts, *losses(history)]


def losses(history: History) -> list[Chart | None]:
    """Training loss by task, and by client."""
    unit = "epoch" if history.run.kind == "central" else "round"
    by_task: dict[str, list[Point]] = {}
    for record in history.rounds:
        for task, loss in mapping(record.get("train_losses")).items():
            if (value := number(loss)) is not None and task in TASKS:
                by_task.setdefault(task, []).append((int(record[unit]), value))
    lines = [Line(_LOSSES[task], by_task[task], number) for number, task in enumerate(in_order(by_task))]
    if not lines:
        lines = [Line("training loss", history.of_rounds("train_loss"))]
    whole = line_chart(f"Training loss by {unit}", lines, "nats", unit, zero=True, note=_steps(history))
    return [whole, _by_step(history), *client_charts(history)]


def _by_step(history: History) -> Chart | None:
    """Of clients on the run's machine: a client's steps are counted through all its rounds."""
    found = read_losses(history.path)
    points: dict[str, list[Point]] = {
        client: [(float(step), loss) for part in sorted(losses) for step, loss in losses[part]]
        for client, losses in found.items()
    }
    points = {client: own for client, own in points.items() if own}
    names = [name for name in history.names if name in points] or sorted(points)[:1]
    return by_client("Training loss by step", points, names, "nats", "training step")


def _steps(history: History) -> str:
    """How long a round is."""
    counts = [count for points in history.of_clients("steps").values() for _, count in points]
    if not counts:
        return ""
    fewest, most = f"{min(counts):,.0f}", f"{max(counts):,.0f}"
    span = fewest if fewest == most else f"{fewest} to {most}"
    return f"a round is {span} optimiser steps of each client that takes part"


_LOSSES = {"vqa": "answers", I2T.name: "texts", T2I.name: "image tokens", GENEVAL.name: "drawing"}


def client_charts(history: History) -> list[Chart | None]:
    """A line a client: held-out score of the global adapter, and training loss."""
    scored: dict[str, list[Point]] = {}
    for version, record in history.versions:
        for client, value in mapping(record.get("heldout_clients")).items():
            if (score := number(value)) is not None:
                scored.setdefault(client, []).append((version, score))
    return [
        by_client("Held-out score by client", scored, history.names, "score", "after round", percent=True),
        by_client("Training loss by client", history.of_clients("train_loss"), history.names, "nats"),
    ]


def by_client(
    title: str, points: Mapping[str, Sequence[Point]], names: Sequence[str], y: str, x: str = "round", *,
    percent: bool = False,
) -> Chart | None:  # fmt: skip
    """A line a client; of many, only those that end highest and lowest have names."""
    own = {name: points[name] for name in names if name in points}
    if len(own) <= _FEW:
        numbers = {name: place for place, name in enumerate(names)}
        lines = [Line(name, own[name], numbers[name], numbers[name] % _FEW >= _FEW // 2) for name in own]
        return line_chart(title, lines, y, x, percent=percent)
    ends = sorted(own, key=lambda name: own[name][-1][1])
    lines = [Line("", own[name], faint=True) for name in ends[1:-1]]
    lines += [Line(f"{ends[-1]} (highest)", own[ends[-1]], 0), Line(f"{ends[0]} (lowest)", own[ends[0]], 1)]
    return line_chart(title, lines, y, x, percent=percent)
