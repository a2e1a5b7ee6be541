"""The screen: in a log file one line a round, under the right headings, and never more than it should."""

from __future__ import annotations

import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from fedumm.formatting import epsilon_text
from fedumm.report import console as console_module
from fedumm.report.console import RunConsole, duration
from support.records import HEADINGS, ROUND, SETUP


class Screen:
    """A console that writes to memory."""

    def __init__(self, terminal: bool = False) -> None:
        self._file = io.StringIO()
        self.console = RunConsole(Console(file=self._file, width=160, force_terminal=terminal, highlight=False))

    @property
    def text(self) -> str:
        return self._file.getvalue()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time that passes only when the test says so."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(console_module, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def cells(line: str) -> list[str]:
    return re.split(r" {2,}", line.strip())


def test_a_round_is_one_line_under_its_headings(screen: Screen) -> None:
    screen.console.show(ROUND)
    header, line = screen.lines
    assert cells(header) == HEADINGS
    assert cells(line) == [
        "2/10", "4", "1.2346", "50.00 %", "66.67 %", "12.50 %", "1.23", "9.88", "12.3", "2 min",
    ]  # fmt: skip
    assert [m.end() for m in re.finditer(r"\S+(?: \S+)*", header)] == [
        m.end() for m in re.finditer(r"\S+(?: \S+)*", line)
    ], "columns and headings are not aligned"


def test_numbers_that_a_run_has_get_columns_of_their_own(screen: Screen) -> None:
    screen.console.show({**ROUND, "aggregation_error": 0.0123456, "epsilon": 1.5})
    screen.console.show({**ROUND, "aggregation_error": None, "epsilon": 2.25})
    header, *lines = screen.lines
    assert cells(header) == [*HEADINGS, "agg. error", "epsilon"]
    assert [cells(line)[-2:] for line in lines] == [["0.0123", "1.5"], ["-", "2.25"]]


SAMPLED: dict[str, Any] = {
    **ROUND, "clients": 2, "clients_per_round": 2, "heldout_clients": {"site-1": 0.5, "site-2": 0.5, "site-4": 0.5},
    "heldout_before_tasks": {"vqa": {"score": 0.25, "count": 9, "parts": {}}}, "aggregation_error": 0.0123456,
}  # fmt: skip


def test_where_clients_are_drawn_each_number_says_whose_it_is(screen: Screen) -> None:
    screen.console.show(SAMPLED)
    panel, drawn, header, line = screen.lines
    assert panel == "held-out: 3 of 4 clients, the same in every round; the best adapter is chosen by it"
    assert drawn == "before, after: before and after local training, the 2 client(s) of the round"
    assert cells(header)[2:7] == ["train loss", "held-out", "before", "after", "common test"]
    assert cells(line)[2:7] == ["1.2346", "50.00 %", "25.00 %", "66.67 %", "12.50 %"]
    assert len(header) == len(line) == 120
    ends = [m.end() for m in re.finditer(r"\S+(?: \S+)*", header)]
    assert ends == [m.end() for m in re.finditer(r"\S+(?: \S+)*", line)]


def test_with_privacy_all_numbers_are_of_the_clients_drawn(screen: Screen) -> None:
    screen.console.show({**SAMPLED, "epsilon": 1.5})
    assert screen.lines[0] == (
        "held-out, after training: the clients of the round; with privacy, no adapter is chosen by scores"
    )
    assert cells(screen.lines[1])[:6] == HEADINGS[:6]


def test_a_score_without_some_of_its_clients_is_told(screen: Screen) -> None:
    screen.console.show({**SAMPLED, "heldout_clients": {"site-1": 0.5}, "heldout_missing": ["site-2", "site-4"]})
    assert screen.lines[0].startswith("held-out: 3 of 4 clients")
    assert screen.lines[-1].strip() == "held-out without 2 of its 3 clients in this round"


def test_what_happened_between_rounds_is_told(screen: Screen) -> None:
    screen.console.show({**SETUP, "noise": {"norm": 27.123, "clip": 1.0}})
    screen.console.show({"event": "repeat", "round": 3, "usable": 1, "needed": 2})
    screen.console.show({"event": "resumed", "round": 2, "elapsed": 9.0})
    assert screen.lines[-3:] == [
        "privacy: the noise on a round's mean update has a norm of about 27.1; without it, that is at most 1. Little "
        "of it will be left: more clients, a lower --lora_r or --aggregator ffa_lora would help",
        "  round 3: 1 usable update(s) of the 2 that it needs: once more",
        "  resumed after round 2",
    ]


def test_what_hosts_lost_is_told_where_it_is_more_than_rounding(screen: Screen) -> None:
    screen.console.show({"event": "folded", "round": 2, "folding_error": 9e-5})
    assert not screen.lines
    screen.console.show({"event": "folded", "round": 3, "folding_error": 0.389})
    (line,) = screen.lines
    assert line.startswith("  round 3: 39 % of its result was lost on the hosts")


def test_the_headings_are_printed_once(screen: Screen) -> None:
    for number in range(1, 6):
        screen.console.show({**ROUND, "round": number})
    assert len(screen.lines) == 6
    assert [cells(line)[0] for line in screen.lines] == ["round", "1/10", "2/10", "3/10", "4/10", "5/10"]


def test_what_was_not_measured_is_a_dash(screen: Screen) -> None:
    nothing = {"heldout_tasks": {}, "heldout_after_tasks": {}, "test_tasks": {}}
    screen.console.show({**ROUND, "train_losses": {"vqa": None}, **nothing})
    assert cells(screen.lines[-1])[2:6] == ["-", "-", "-", "-"]


@pytest.mark.parametrize(
    ("round_number", "elapsed", "left"), [(1, 60.0, "9 min"), (5, 100.0, "2 min"), (9, 9.0, "1 s"), (10, 500.0, "0 s")]
)
def test_the_time_left_is_what_the_rounds_so_far_took(
    round_number: int, elapsed: float, left: str, screen: Screen
) -> None:
    screen.console.show({**ROUND, "round": round_number, "elapsed": elapsed})
    assert cells(screen.lines[-1])[-1] == left


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (41.6, "42 s"), (89.4, "89 s"), (90, "2 min"), (180, "3 min"), (5399, "90 min"), (5400, "1.5 h"),
     (9000, "2.5 h"), (360_000, "100.0 h")],
)  # fmt: skip
def test_durations_are_in_the_unit_one_would_say_them_in(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_set_up_tells_sizes_and_the_adapters_share(screen: Screen) -> None:
    screen.console.show(SETUP)
    assert screen.lines == [
        "2 clients on 2 host(s): 1,234 training and 35 held-out samples, 4,321 common test samples",
        "trainable: 3,538,944 / 364,769,084 (0.9702%); the adapter is 14.17 MB on the wire",
    ]


def test_cached_features_are_mentioned_if_there_are_any(screen: Screen) -> None:
    kept = {"name": "vision features", "kept": "disk", "bytes": 12_340_000, "images": 5000, "computed": 17, "note": ""}
    screen.console.show({**SETUP, "features": [kept]})
    assert screen.lines[2:] == ["vision features of 5,000 images: 12.3 MB on disk, mapped, 17 computed now"]


@pytest.mark.parametrize(
    ("code", "lines"),
    [(None, []), ("non_finite", ["  round 3: site-2 rejected: a[0] holds NaN [bold]"])],
)
def test_a_client_is_mentioned_only_if_it_is_rejected(code: str | None, lines: list[str], screen: Screen) -> None:
    """Square brackets are rich's markup: they must come out as they are."""
    reason = "a[0] holds NaN [bold]" if code else None
    screen.console.show({"event": "client", "round": 3, "client": "site-2", "rejected": code, "reason": reason})
    assert screen.lines == lines


@pytest.mark.parametrize("event", ["final", "something new"])
def test_other_records_print_nothing(event: str, screen: Screen) -> None:
    screen.console.show({"event": event, "round": 3})
    assert screen.text == ""


def scored(number: int, clients: str = "ab", **scores: dict[str, float]) -> dict[str, Any]:
    """A closing record's entry by clients of one letter: of ``t2i`` the loss."""
    tasks = {
        name: {
            task: {"score": value, "count": 3, "parts": {}} | ({"loss": value} if task == "t2i" else {})
            for task, value in own.items()
        }
        for name, own in scores.items()
    }
    empty = {"heldout_tasks": {}, "test_tasks": {}, "heldout_clients": dict.fromkeys(clients, 0.5)}
    return {"round": number, **empty} | {f"{n}_tasks": own for n, own in tasks.items()}


def shown_table(screen: Screen) -> list[list[str]]:
    """The cells of the table on screen, a heading of two lines as one."""
    rows = [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in screen.lines if re.search("[│┃]", line)]
    heading = [" ".join(filter(None, pair)) for pair in zip(rows[0], rows[1], strict=True)]
    return [heading, *rows[2:]]


def test_a_run_with_two_tasks_shows_both(screen: Screen) -> None:
    clients = {
        "site-1": {"train": 10, "heldout": 1, "tasks": {"vqa": 6, "t2i": 4}},
        "site-2": {"train": 3, "heldout": 1, "tasks": {"t2i": 3}},
    }
    screen.console.show({**SETUP, "clients": clients})
    assert screen.lines[2:] == [
        "vqa: 6 training samples on 1 client(s)",
        "t2i: 7 training samples on 2 client(s)",
    ]
    both = scored(0, heldout={"vqa": 0.5, "t2i": 3.25}, test={"vqa": 0.25, "t2i": 4.5, "geneval": 0.125})
    screen.console.show({**ROUND, **both, "round": 2, "train_losses": {"t2i": 4.0, "vqa": 1.5}})
    header, line, drawn = screen.lines[4:]
    assert cells(header) == HEADINGS
    assert "1.5000  4.0000" in line
    assert "50.00 %  3.250 nats" in line
    assert "25.00 %  4.500 nats" in line
    assert drawn.strip() == "GenEval on 3 images before it: 12.50 %"
    ends = [m.end() for m in re.finditer(r"\S+(?: \S+)*", header)]
    assert all(line[end - 1] != " " and line[end : end + 1] in ("", " ") for end in ends), "not under the headings"
    screen.console.finished(
        Path("runs/x"), {"roster": 2, "untrained": both, "best": {**both, "round": 1}, "last": {**both, "round": 1}}
    )
    heading, *rows = shown_table(screen)
    assert heading == [
        "adapter", "held-out accuracy", "held-out image tokens", "common test accuracy", "common test image tokens",
        "common test GenEval",
    ]  # fmt: skip
    assert rows[0] == ["untrained", "50.00 %", "3.250 nats", "25.00 %", "4.500 nats", "12.50 %"]


def test_the_closing_table_has_the_scores_and_the_adapter_to_use(screen: Screen, tmp_path: Path) -> None:
    summary = {
        "event": "summary",
        "roster": 2,
        "untrained": scored(0, heldout={"vqa": 0.1}),
        "best": scored(7, heldout={"vqa": 0.9}, test={"vqa": 0.8}),
        "last": scored(10, heldout={"vqa": 0.7}, test={"vqa": 0.6}),
    }
    run = Path("runs") / ("long-" * 40)
    screen.console.finished(run, summary, ["vqa"])
    assert shown_table(screen) == [
        ["adapter", "held-out accuracy", "common test accuracy"],
        ["untrained", "10.00 %", "-"],
        ["best (after round 7)", "90.00 %", "80.00 %"],
        ["last (after round 10)", "70.00 %", "60.00 %"],
    ]
    assert screen.lines[-3].startswith(f"Run folder: {run} ")
    assert screen.lines[-2] == f"Adapter:    {run}/adapter/best"
    assert screen.lines[-1].endswith(f"--adapter {run}/adapter/best"), "a command must not be broken into lines"


@pytest.mark.parametrize(
    ("scorers", "title", "notes"),
    [
        (["abc", "abc", "abc"], "Result", ["", "", ""]),
        (["ab", "ab", "ab"], "Result (held-out: 2 of 3 clients)", ["", "", ""]),
        (["abc", "ab", "ab"], "Result", ["all clients", "2 of 3 clients", "2 of 3 clients"]),
        (["ab", "ac", ""], "Result", ["2 of 3 clients", "2 of 3 clients", ""]),
        (["", "", ""], "Result", ["", "", ""]),
    ],
)
def test_the_closing_table_says_who_scored(screen: Screen, scorers: list[str], title: str, notes: list[str]) -> None:
    rows = [scored(n, own, heldout={"vqa": 0.5} if own else {}, test={"vqa": 0.5}) for n, own in enumerate(scorers)]
    screen.console.finished(Path("x"), {"roster": 3, "untrained": rows[0], "best": rows[1], "last": rows[2]})
    assert screen.lines[0].strip() == title
    names = [re.split("[│┃]", line)[1].strip() for line in screen.lines if re.search("[│┃]", line)][2:]
    expected = []
    for name, note in zip(["untrained", "best (after round 1)", "last (after round 2)"], notes, strict=True):
        expected += [name, f"held-out: {note}"] if note else [name]
    assert names == expected


@pytest.mark.parametrize(
    ("tasks", "last"),
    [(["vqa"], ["Ask it"]), ([], []), (["t2i"], ["Let it draw"]), (["vqa", "t2i"], ["Ask it", "Let it draw"])],
)
def test_without_a_summary_only_the_folder_is_named(screen: Screen, tasks: list[str], last: list[str]) -> None:
    screen.console.finished(Path("runs/x"), None, tasks)
    assert [line.split(":")[0] for line in screen.lines] == ["Run folder", "Adapter", *last]


def test_the_time_left_does_not_count_the_set_up(screen: Screen) -> None:
    """40 s of loading, then 2 rounds of 10 s: 8 more rounds take 80 s."""
    screen.console.show({**SETUP, "seconds": 40.0})
    screen.console.show({**ROUND, "round": 2, "rounds": 10, "elapsed": 60.0})
    assert screen.lines[-1].endswith("80 s")


class TestProgress:
    def test_in_a_log_file_is_a_line_every_half_minute(self, clock: SimpleNamespace) -> None:
        screen = Screen()
        with screen.console:
            for clock.seconds in range(0, 100, 2):
                screen.console.progress("training site-1", clock.seconds, 1000, "host-1")
        assert screen.lines == [
            "  ... training site-1  32/1,000",
            "  ... training site-1  64/1,000",
            "  ... training site-1  96/1,000",
        ]

    def test_waits_after_a_round_was_shown(self, clock: SimpleNamespace) -> None:
        screen = Screen()
        clock.seconds = 29
        screen.console.show(ROUND)
        clock.seconds = 58
        screen.console.progress("training", 1, 2)
        assert len(screen.lines) == 2
        clock.seconds = 60
        screen.console.progress("training", 1, 2)
        assert screen.lines[2:] == ["  ... training  1/2"]

    def test_on_a_terminal_is_a_bar_for_each_host_and_rounds_stay_above(self) -> None:
        screen = Screen(terminal=True)
        with screen.console:
            for done in (1, 2):
                screen.console.progress("training site-1", done, 4321, "host-1")
                screen.console.progress("training site-2", 10 * done, 4321, "host-2")
            screen.console.show(ROUND)
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.text)
        assert "host-1: training site-1" in shown
        assert "host-2: training site-2" in shown
        assert "20/4,321" in shown
        assert len(re.findall("1.2346", shown)) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8.0, "8"),
        (8.391, "8.4"),
        (0.12301, "0.124"),
        (120.1, "121"),
        (0.0, "0"),
        (float("inf"), "inf"),
    ],
)
def test_epsilon_is_never_shown_smaller_than_it_is(value: float, text: str) -> None:
    assert epsilon_text(value) == text
    assert float(text) >= value
