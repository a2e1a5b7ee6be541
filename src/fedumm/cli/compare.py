"""``fedumm compare``: runs side by side."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fedumm.cli.options import Parser
from fedumm.cli.report import run_folder
from fedumm.cli.runs import as_json, shown_score, state_text
from fedumm.errors import FedummError
from fedumm.report.comparison import Group, PairedTest, Place, comparison
from fedumm.report.overview import Overview, overview
from fedumm.texts import one_line

DESCRIPTION = """Compare runs: settings that differ, results side by side, and a paired test where runs differ by seed.

  fedumm compare fedavg flora
  fedumm compare runs/fedavg-s1 runs/fedavg-s2 runs/flora-s1 runs/flora-s2 --json"""

_LONGEST_VALUE = 60
_ABOUT_P = "p: two-sided, of the paired t-test and of the Wilcoxon signed-rank test; pairs have the same seed."


def main(argv: list[str], prog: str) -> int:
    """Parse, read, compare."""
    parser = Parser(prog=prog, usage="%(prog)s RUN RUN ... [OPTIONS]", description=DESCRIPTION)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs; a bare name is runs/NAME")
    parser.add_argument(
        "--score", choices=("test", "heldout"), default="test",
        help="what is tested: the best adapter on the common test set or on held-out data (default: test)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    folders = [run_folder(name) for name in args.runs]
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise FedummError("Name two runs or more, each of them once.")
    runs = [overview(folder) for folder in folders]
    for run in runs:
        if run.state == "damaged":
            raise FedummError(f"The run in {run.path} can't be read: {run.problem}")
    found = comparison(runs, args.score)
    if args.json:
        print(json.dumps(_as_json(runs, found, args.score), indent=1))
    else:
        _show(runs, found, args.score)
    return 0


def _as_json(runs: Sequence[Overview], found: Mapping[str, Any], place: Place) -> dict[str, Any]:
    now = time.time()
    return {
        "score": place,
        "runs": [as_json(run, now) for run in runs],
        "differ": found["differ"],
        "groups": [
            {"runs": g.numbers, "scores": g.scores, "mean": g.mean, "deviation": g.deviation} for g in found["groups"]
        ],
        "tests": [asdict(test) for test in found["tests"]],
        "warnings": found["warnings"],
    }


def _show(runs: Sequence[Overview], found: Mapping[str, Any], place: Place) -> None:
    from fedumm.report.tables import Column, print_line, print_table, table_width

    print_table(
        [
            Column("run", [run.path.name for run in runs]),
            Column("#", [str(number) for number in range(1, len(runs) + 1)], 0, "right"),
            Column("untrained", [shown_score(run, "untrained", "test") for run in runs], 2, "right"),
            Column("best", [shown_score(run, "best", "test") for run in runs], 0, "right"),
            Column("last", [shown_score(run, "last", "test") for run in runs], 4, "right"),
            Column("held-out: untrained", [shown_score(run, "untrained", "heldout") for run in runs], 6, "right"),
            Column("best held-out", [shown_score(run, "best", "heldout") for run in runs], 3, "right"),
            Column("best after", [_after(run) for run in runs], 7, "right"),
            Column("MB down", [_megabytes(run.bytes_down) for run in runs], 5, "right"),
            Column("MB up", [_megabytes(run.bytes_up) for run in runs], 5, "right"),
            Column("seconds", ["-" if run.seconds is None else f"{run.seconds:.0f}" for run in runs], 1, "right"),
            Column("state", [state_text(run) for run in runs], 8),
        ]
    )
    print_line("")
    print_line("Settings that differ" if found["differ"] else "All settings are the same.")
    width = table_width()
    for name, values in found["differ"].items():
        by_value: dict[str, list[str]] = {}
        for number, value in enumerate(values, start=1):
            by_value.setdefault(value, []).append(f"#{number}")
        text = "; ".join(f"{one_line(value, _LONGEST_VALUE)} ({' '.join(own)})" for value, own in by_value.items())
        flag = name if name == "kind" else f"--{one_line(name, _LONGEST_VALUE)}"
        for line in textwrap.wrap(f"{flag}: {text}", width - 2, subsequent_indent="    "):
            print_line(f"  {line}")
    _show_tests(found["groups"], found["tests"], place)
    for line in [*([_ABOUT_P] if found["tests"] else []), *found["warnings"]]:
        for part in textwrap.wrap(line, width):
            print_line(part)


def _show_tests(found: Sequence[Group], tests: Sequence[PairedTest], place: Place) -> None:
    from fedumm.report.tables import Column, print_line, print_table

    if not any(len(group.scores) > 1 for group in found):
        return
    where = "common test set" if place == "test" else "held-out data"
    print_line("")
    print_line(f"Best adapter on the {where}, by setting, over seeds")
    names = [" ".join(f"#{number + 1}" for number in group.numbers) for group in found]
    by_second = {test.second: test for test in tests}
    own = [by_second.get(place) for place in range(len(found))]
    print_table(
        [
            Column("runs", names),
            Column("seeds", [str(len(group.scores)) for group in found], 3, "right"),
            Column("mean", [f"{100 * group.mean:.2f} %" for group in found], 0, "right"),
            Column("std. dev.", [_points(group.deviation, "") for group in found], 2, "right"),
            Column("to the first", [_points(test.difference if test else None) for test in own], 0, "right"),
            Column("95 % interval", [_interval(test) for test in own], 4, "right"),
            Column("effect (d)", [_number(test.effect if test else None, ".2f") for test in own], 5, "right"),
            Column("pairs", [str(test.pairs) if test else "-" for test in own], 1, "right"),
            Column("p (t)", [_number(test.t_test if test else None, ".3g") for test in own], 0, "right"),
            Column("p (Wilcoxon)", [_number(test.wilcoxon if test else None, ".3g") for test in own], 1, "right"),
        ]
    )


def _after(run: Overview) -> str:
    unit = "epoch" if run.kind == "central" else "round"
    return "-" if run.best_round is None else f"{unit} {run.best_round}"


def _megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.2f}"


def _points(value: float | None, sign: str = "+") -> str:
    """A difference of shares."""
    return "-" if value is None else format(100 * value, f"{sign}.2f")


def _interval(test: PairedTest | None) -> str:
    return "-" if test is None or test.low is None else f"{_points(test.low)} to {_points(test.high)}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
