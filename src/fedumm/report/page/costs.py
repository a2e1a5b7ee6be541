"""What a run cost: bytes, seconds, privacy; and with what it was run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING
from typing import Any

from fedumm.config import GROUPS, CentralConfig, FederateConfig
from fedumm.formatting import epsilon_text
from fedumm.report.console import duration
from fedumm.report.page.charts import Chart, Line, bar_chart, line_chart
from fedumm.report.page.history import History, Point, mapping, number
from fedumm.run_options import known_options

Rows = list[tuple[str, str]]


def bytes_text(count: float) -> str:
    """``12.3 MB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"


def traffic(history: History) -> tuple[Rows, list[Chart | None]]:
    """Bytes down and up, in all and by round."""
    down, up = history.of_rounds("bytes_down"), history.of_rounds("bytes_up")
    if not down and not up:
        return [], []
    size = max(value for _, value in [*down, *up]) or 1
    unit, scale = next(((u, s) for u, s in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if size >= s), ("bytes", 1))
    parts = [
        Line(name, [(place, value / scale) for place, value in points], place)
        for place, (name, points) in enumerate((("down, to hosts", down), ("up, of clients that counted", up)))
    ]
    # Beside rounds, the last version is sent to be scored, and the best one to draw with.
    later = [number(record.get("bytes_down")) for record in (history.final, *history.others)]
    rows = [
        ("down", bytes_text(sum(value for _, value in down) + sum(filter(None, later)))),
        ("up", bytes_text(sum(value for _, value in up))),
    ]
    if adapter := number(history.setup.get("adapter_bytes")):
        rows.append(("adapter, whole", bytes_text(adapter)))
    return rows, [bar_chart("Bytes by round", parts, unit)]


def times(history: History) -> tuple[Rows, list[Chart | None]]:
    """Where the time went."""
    if history.run.kind == "central":
        epochs = Line("training and scoring", [p for p in history.of_rounds("seconds") if p[0] > 0])
        spent = [("in all", duration(history.run.seconds))] if history.run.seconds else []
        return spent, [bar_chart("Seconds by epoch", [epochs], "seconds", "epoch")]
    rows: Rows = []
    if history.run.kind == "local":
        own = [value for record in history.alone.values() if (value := number(record.get("seconds"))) is not None]
        setup = number(history.setup.get("seconds"))
        kinds = (("set-up", setup), ("training and scoring of all clients", sum(own) or None))
        return [(name, duration(seconds)) for name, seconds in kinds if seconds is not None], []
    for name, seconds in (("in all", history.run.seconds), ("set-up", number(history.setup.get("seconds")))):
        if seconds is not None:
            rows.append((name, duration(seconds)))
    train, score, rest = (list[Point]() for _ in range(3))
    for record in history.rounds:
        place = int(record["round"])
        for key, points in (("seconds_train", train), ("seconds_eval", score)):
            own = [value for client in history.clients.get(place, ()) if (value := number(client.get(key))) is not None]
            points.append((place, sum(own)))
        whole, host = number(record.get("seconds")), number(record.get("seconds_host"))
        if whole is not None and host is not None:
            rest.append((place, max(0.0, whole - host)))
    rows += [
        (name, duration(sum(value for _, value in points)))
        for name, points in (("clients' training", train), ("clients' scoring", score), ("server and transfer", rest))
        if points
    ]
    hosts = len(mapping(history.setup.get("hosts")))
    note = f"clients' seconds are added up: {hosts} hosts worked side by side" if hosts > 1 else ""
    parts = [
        Line("clients' training", train, 0),
        Line("clients' scoring", score, 1),
        Line("server, transfer, waiting", rest, 2),
    ]
    return rows, [bar_chart("Seconds by round", parts, "seconds", note=note)]


def privacy(history: History) -> tuple[Rows, list[Chart | None]]:
    """What was spent; nothing without differential privacy."""
    spent, options = history.of_rounds("epsilon"), history.options
    if not spent:
        return [], []
    noise = mapping(history.setup.get("noise"))
    rows = [
        ("epsilon after the last round", epsilon_text(spent[-1][1])),
        ("delta", str(options.get("dp_delta"))),
        ("noise is added", {"central": "at the server", "local": "at each client"}.get(str(options.get("dp")), "-")),
        ("updates are clipped to a norm of", str(options.get("dp_clip"))),
    ]
    if (norm := number(noise.get("norm"))) is not None:
        rows.append(("norm of the noise on a round's mean update", f"{norm:.3g}"))
    return rows, [line_chart("Privacy spent", [Line("epsilon", spent)], "epsilon", "after round", zero=True)]


def options_tables(history: History) -> tuple[Rows, list[tuple[str, Rows]]]:
    """The options that are not at their defaults, and all of them by group."""
    kind = CentralConfig if history.run.kind == "central" else FederateConfig
    known = known_options(kind)
    changed, groups = [], dict[str, Rows]()
    for name, value in history.options.items():
        own = known.get(str(name))
        group = own.metadata["group"] if own else "Others"
        groups.setdefault(group, []).append((f"--{name}", _value(value)))
        if own is None or own.default is MISSING or own.default != value:
            changed.append((f"--{name}", _value(value)))
    order = [*GROUPS, "Others"]
    return changed, sorted(groups.items(), key=lambda group: order.index(group[0]))


def _value(value: object) -> str:
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else (str(value) or "-")


def environment(history: History) -> Rows:
    """Devices and versions."""
    setup = history.setup
    hosts: Mapping[str, Any] = mapping(setup.get("hosts")) or ({"this machine": setup} if "device" in setup else {})
    devices: dict[str, list[str]] = {}
    versions: dict[str, set[str]] = {}
    for name, host in hosts.items():
        devices.setdefault(str(mapping(host).get("device")), []).append(str(name))
        for library, version in mapping(mapping(host).get("versions")).items():
            versions.setdefault(str(library), set()).add(str(version))
    rows = [(device, _several(names)) for device, names in devices.items()]
    rows += [(library, ", ".join(sorted(found))) for library, found in sorted(versions.items())]
    trainable, total = number(setup.get("trainable")), number(setup.get("total"))
    if trainable and total:
        rows.insert(0, ("trained parameters", f"{trainable:,.0f} of {total:,.0f} ({100 * trainable / total:.3g} %)"))
    return rows


def _several(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 8 else f"{len(names)} hosts"


def data_rows(history: History) -> Rows:
    """What ``data.json`` says of the samples; of clients with data of their own, of each one's."""
    clients = mapping(history.data.get("clients"))
    if not clients:
        return _rows_of(history.data, "")
    return [row for client, data in clients.items() for row in _rows_of(mapping(data), f"{client}: ")]


def _rows_of(data: Mapping[str, Any], whose: str) -> Rows:
    rows: Rows = []
    for split, name in (("train", "training"), ("eval", "evaluation")):
        own = mapping(data.get(split))
        given = mapping(own.get("rows"))
        samples, images = number(given.get("samples")), number(own.get("images"))
        if samples is None:
            continue
        text = f"{samples:,.0f} samples" + (f" on {images:,.0f} images" if images else "")
        types = [
            f"{kind} {value:,.0f}" for kind, count in mapping(own.get("types")).items() if (value := number(count))
        ]
        rows.append((f"{whose}{name}", text + (f" ({', '.join(types[:8])})" if types else "")))
        for why, count in [*mapping(given.get("left_out")).items()][:5]:
            if number(count):
                rows.append((f"{whose}{name}, left out", f"{number(count):,.0f}: {why}"))
    overlap = number(data.get("overlap"))
    if overlap:
        rows.append((f"{whose}training samples on images of the evaluation", f"{overlap:,.0f}"))
    return rows
