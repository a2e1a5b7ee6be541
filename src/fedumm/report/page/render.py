"""The page itself: sections with data, filled into the template."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fedumm import __version__
from fedumm.images import ImageError, open_image
from fedumm.report.page import alone, clients, costs, scores
from fedumm.report.page.charts import Chart
from fedumm.report.page.examples import PICTURES, Example
from fedumm.report.page.history import History, number
from fedumm.texts import one_line

_PACKAGE = "fedumm.report.page"
_LONGEST = 2000
_MOST_EXAMPLES = 200
_LARGEST_PICTURE = 2_000_000


def page(history: History, examples: Sequence[Example] = (), note: str = "") -> str:
    """The report as a text.

    Args:
        examples: of :mod:`fedumm.report.page.examples`.
        note: why there are none.
    """
    content = _content(alone.with_means(history), examples, note)
    return _environment().get_template("report.html").render(**content)


def _environment() -> Environment:
    """Every text that is shown is on one line, without what does not print, cut where it is long, and escaped."""
    environment = Environment(
        loader=PackageLoader(_PACKAGE, "html"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = lambda text, limit=300: one_line(text, limit)
    return environment


def _shown(value: Any) -> Any:
    return one_line(value, _LONGEST) if isinstance(value, str) and not isinstance(value, Markup) else value


def _content(history: History, examples: Sequence[Example], note: str) -> dict[str, Any]:
    traffic, traffic_charts = costs.traffic(history)
    seconds, time_charts = costs.times(history)
    spent, privacy_charts = costs.privacy(history)
    changed, groups = costs.options_tables(history)
    local = history.run.kind == "local"
    shown = [example for example in examples if example.before is not None][:_MOST_EXAMPLES]
    return {
        "style": Markup((files(_PACKAGE) / "html" / "style.css").read_text(encoding="utf-8")),
        "name": history.path.resolve().name,
        "subtitle": _subtitle(history),
        "state": _state(history),
        "tiles": [*scores.tiles(history), *alone.tiles(history)],
        "trained": scores.trained(history),
        "remarks": _remarks(history),
        "versions": scores.versions_table(history),
        "parts": scores.parts(history),
        "client_parts": alone.parts(history),
        "examples": sorted(shown, key=lambda one: (not one.change, -abs(one.change), one.source_row)),
        "wins": sum(one.change > 0 for one in shown),
        "losses": sum(one.change < 0 for one in shown),
        "examples_note": note,
        "drawn": [one for one in examples if one.drawn_after],
        "picture": lambda name: picture_address(history.path, name),
        "curves": _there(scores.curves(history)),
        "split": clients.split(history),
        "fairness": alone.fairness(history) if local else clients.fairness(history),
        "clients": alone.clients_table(history) if local else clients.clients_table(history),
        "drift": _there(clients.drift(history)),
        "aggregation": _there(clients.aggregation(history)),
        "left_out": clients.left_out(history),
        "costs": [("Bytes", traffic), ("Time", seconds)],
        "cost_charts": _there([*traffic_charts, *time_charts]),
        "privacy": spent,
        "privacy_charts": _there(privacy_charts),
        "changed": changed,
        "groups": groups,
        "data": costs.data_rows(history),
        "environment": costs.environment(history),
        "command": history.run.command,
        "version": __version__,
        "when": time.strftime("%Y-%m-%d", time.localtime(history.run.changed)),
    }


def _there(charts: Sequence[Chart | None]) -> list[Chart]:
    return [chart for chart in charts if chart]


def _subtitle(history: History) -> list[str]:
    options, run = history.options, history.run
    model = str(options.get("model_name_or_path") or "default model")
    parts = [f"{options.get('model_backend')} ({Path(model).name or model})"]
    data = str(options.get("dataset") or "default data set")
    parts.append(data if len(data) < 60 else Path(data).name)
    if run.kind == "central":
        return [*parts, f"central training, {run.round} epochs"]
    parts.append(f"{run.clients} clients")
    if run.kind == "local":
        epochs = number(history.setup.get("epochs"))
        parts.append(f"each alone, {epochs:.0f} epochs" if epochs else "each alone")
    else:
        parts += [f"{run.round} rounds", str(options.get("aggregator"))]
    alpha, partition = number(options.get("dirichlet_alpha")), str(options.get("partition") or "iid")
    if alpha:
        return [*parts, f"Dirichlet \N{GREEK SMALL LETTER ALPHA} = {alpha:g}"]
    return [*parts, {"iid": "IID", "own": "own data"}.get(partition, partition)]


def _state(history: History) -> str:
    """Empty if it is finished."""
    run = history.run
    unit = {"federated": "round", "central": "epoch", "local": "client"}[run.kind]
    return "" if run.state == "finished" else f"{run.state}: after {unit} {run.round} of {run.rounds}"


def _remarks(history: History) -> list[str]:
    """What the reader of the headline should know."""
    run, found = history.run, []
    if run.kind == "federated" and run.best_round == 0 and run.round:
        found.append(
            "No round was better than the untrained adapter on the held-out data: more rounds or local steps, or a "
            "higher --lr, may help."
        )
    for record in history.others:
        if record["event"] == "patience":
            place, best = record.get("round"), record.get("best")
            found.append(
                f"The run ended after round {place}, since none was better than the adapter after round {best} "
                "(--patience)."
            )
    missing = sum(bool(record.get("heldout_missing")) for record in history.rounds)
    if missing:
        found.append(f"In {missing} rounds a client that should have scored the adapter did not.")
    rejected = sum(bool(r.get("rejected")) for records in history.clients.values() for r in records)
    if rejected:
        found.append(f"{rejected} updates of clients were rejected: the section \N{LEFT DOUBLE QUOTATION MARK}Left "
                     "out\N{RIGHT DOUBLE QUOTATION MARK} says why.")  # fmt: skip
    return found


def picture_address(folder: Path, name: str) -> str:
    """A picture of the examples as a ``data:`` address; empty if it is none of ours, or no picture."""
    path = folder / name
    kinds = {".jpg": ("image/jpeg", "JPEG"), ".png": ("image/png", "PNG")}
    # The list of examples may be somebody else's: of any other file nothing is shown.
    if path.suffix not in kinds or Path(name).parent != Path(PICTURES) or path.is_symlink():
        return ""
    kind, form = kinds[path.suffix]
    try:
        if path.parent.is_symlink() or path.stat().st_size > _LARGEST_PICTURE:
            return ""
        open_image(path)
        content = path.read_bytes()
    except (OSError, ImageError):
        return ""
    begins = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n"}[form]
    return f"data:{kind};base64,{base64.b64encode(content).decode()}" if content.startswith(begins) else ""
