"""Figures: the tables behind them against brute-force counts, and the pictures against the tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedumm.report import figures
from fedumm.report.figures import MAX_LABELS, label_table, rounds_table, save_partition_figure, save_rounds_figure

PNG = b"\x89PNG\r\n\x1a\n"
COUNTS = st.dictionaries(
    st.integers(1, 64).map(lambda n: f"site-{n}"),
    st.dictionaries(st.integers(0, 20).map(lambda n: f"answer {n}"), st.integers(1, 50), min_size=1),
    min_size=1,
    max_size=6,
)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes of every figure drawn in the test."""
    seen: list[Any] = []
    real: Callable[[float, float], tuple[Any, Any]] = figures._axes

    def spy(width: float, height: float) -> tuple[Any, Any]:
        figure, axes = real(width, height)
        seen.append(axes)
        return figure, axes

    monkeypatch.setattr(figures, "_axes", spy)
    return seen


@settings(deadline=None, max_examples=60)
@given(COUNTS)
def test_the_label_table_counts_every_row_once(counts: dict[str, dict[str, int]]) -> None:
    rows = [(client, label) for client, own in counts.items() for label, n in own.items() for _ in range(n)]
    totals = Counter(label for _, label in rows)
    ranked = sorted(totals, key=lambda label: (-totals[label], label))
    kept = ranked if len(ranked) <= MAX_LABELS else ranked[: MAX_LABELS - 1]
    labels, table = label_table(counts)
    assert labels == (kept if len(ranked) <= MAX_LABELS else [*kept, "other"])
    for client, row in zip(counts, table, strict=True):
        brute = [sum(1 for c, label in rows if c == client and label == wanted) for wanted in kept]
        rest = sum(1 for c, label in rows if c == client and label not in kept)
        assert row == (brute if len(ranked) <= MAX_LABELS else [*brute, rest])


@pytest.mark.parametrize(("labels", "shown", "other"), [(16, 16, False), (17, 16, True), (100, 16, True)])
def test_rare_labels_are_pooled_only_if_they_do_not_all_fit(labels: int, shown: int, other: bool) -> None:
    counts = {"site-1": {f"answer {n:03}": 1000 - n for n in range(labels)}, "site-2": {"answer 000": 1}}
    names, rows = label_table(counts)
    assert len(names) == shown
    assert ("other" in names) == other
    assert [sum(row) for row in rows] == [sum(range(1001 - labels, 1001)), 1]


def test_bars_are_as_long_as_the_table_says_and_stand_end_to_end(drawn: list[Any], tmp_path: Path) -> None:
    counts = {f"site-{c}": {f"answer {n}": (c * n) % 7 + 1 for n in range(14)} for c in range(1, 4)}
    labels, rows = save_partition_figure(counts, tmp_path / "split.png")
    assert (labels, rows) == label_table(counts)
    (axes,) = drawn
    bars = [[(bar.get_x(), bar.get_width()) for bar in container] for container in axes.containers]
    for client, row in enumerate(rows):
        starts = [sum(row[:place]) for place in range(len(row))]
        assert [container[client] for container in bars] == list(zip(starts, row, strict=True))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == labels
    assert axes.get_xlabel() == "training samples"
    assert len({container[0].get_facecolor() for container in axes.containers}) == len(axes.containers), (
        "two labels share a colour"
    )
    assert (tmp_path / "split.png").read_bytes().startswith(PNG)


def test_the_first_client_is_on_top_however_many_there_are(drawn: list[Any], tmp_path: Path) -> None:
    counts = {f"site-{c}": {"yes": c} for c in range(1, 65)}
    save_partition_figure(counts, tmp_path / "split.png")
    (axes,) = drawn
    bottom, top = axes.get_ylim()
    assert bottom > top
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list(counts)


def test_many_clients_are_outlines_over_the_whole_height(drawn: list[Any], tmp_path: Path) -> None:
    counts = {f"site-{c}": {"yes": 2, "no": c} for c in range(1, 501)}
    save_partition_figure(counts, tmp_path / "split.png")
    (axes,) = drawn
    assert axes.get_ylim() == (500, 1)
    ends = [area.get_paths()[0].vertices[:, 0].max() for area in axes.collections]
    assert ends == [500, 502], "no first, being the more frequent, then yes on top of it"
    assert not axes.patches


ROUNDS: list[dict[str, Any]] = [
    {"event": "setup", "heldout": 9.0, "round": 9},
    {"event": "client", "round": 1, "client": "site-1", "heldout": 0.9, "train_loss": 9.0},
    {"event": "round", "round": 1, "heldout": 0.1, "test": 0.2, "train_loss": 3.0},
    {"event": "round", "round": 2, "heldout": None, "test": 0.3, "train_loss": None},
    {"event": "round", "round": 3, "heldout": 0.5, "train_loss": 1.0},
    {"event": "final", "round": 3, "heldout": 0.6, "test": None},
    {"event": "summary", "best": {"round": 3, "heldout": 0.6}},
]
SERIES = {
    # Round r scores the adapter after r - 1 rounds, "final" the one after all of them.
    "heldout": [(0, 0.1), (2, 0.5), (3, 0.6)],
    "test": [(0, 0.2), (1, 0.3)],
    "train_loss": [(1, 3.0), (3, 1.0)],
}


def test_scores_belong_to_the_adapter_they_were_measured_on() -> None:
    assert rounds_table(ROUNDS) == SERIES


def test_the_figure_of_rounds_shows_the_series(drawn: list[Any], tmp_path: Path) -> None:
    assert save_rounds_figure(ROUNDS, tmp_path / "rounds.png") == SERIES
    (left,) = drawn
    right = next(axes for axes in left.figure.axes if axes is not left)
    lines = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in (*right.lines, *left.lines[:2])}
    assert lines == {
        "clients' held-out data": [(r, pytest.approx(100 * v)) for r, v in SERIES["heldout"]],
        "common test set": [(r, pytest.approx(100 * v)) for r, v in SERIES["test"]],
        "training loss (right axis)": SERIES["train_loss"],
    }
    assert [text.get_text() for text in left.figure.legends[0].get_texts()] == [
        "clients' held-out data",
        "common test set",
        "training loss (right axis)",
    ]
    assert (left.get_ylabel(), left.get_xlabel()) == ("accuracy (%)", "round")
    assert "nats" in right.get_ylabel()
    assert right.get_ylim()[0] == 0
    assert (tmp_path / "rounds.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("records", [[], [{"event": "round", "round": 1, "heldout": None, "train_loss": None}]])
def test_a_run_without_scores_has_empty_series_and_still_a_figure(records: list[Any], tmp_path: Path) -> None:
    assert save_rounds_figure(records, tmp_path / "rounds.png") == {"heldout": [], "test": [], "train_loss": []}
    assert (tmp_path / "rounds.png").read_bytes().startswith(PNG)
