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
    real: Callable[..., tuple[Any, Any]] = figures._axes

    def spy(*size: float) -> tuple[Any, Any]:
        figure, axes = real(*size)
        seen.extend(axes)
        return figure, axes

    monkeypatch.setattr(figures, "_axes", spy)
    return seen


def test_a_word_for_a_colour_has_that_colour_and_no_other_label_a_similar_one() -> None:
    labels = ["yes", "Red", "no", "blue", " green", "3", *(f"other {n}" for n in range(10))]
    colours = [tuple(colour) for colour in figures.label_colours(labels)]
    assert colours[1] == (1, 0, 0)
    assert colours[3] == (0, 0, 1)
    assert colours[4] == pytest.approx((0, 128 / 255, 0))
    words = [colours[place] for place in (1, 3, 4)]
    rest = [colour for place, colour in enumerate(colours) if place not in (1, 3, 4)]
    assert min(sum((a - b) ** 2 for a, b in zip(w, c, strict=True)) for w in words for c in rest) > 0.05
    assert len(set(rest[:8])) == 8


@pytest.mark.parametrize("clients", [1, 2, 4])
def test_the_legend_lies_within_the_figure(clients: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    real = figures._axes
    monkeypatch.setattr(figures, "_axes", lambda *size: seen.append(real(*size)) or seen[-1])
    counts = {f"site-{n}": {f"answer {k}": 5 + k for k in range(MAX_LABELS)} for n in range(clients)}
    save_partition_figure(counts, tmp_path / "split.png", "a run")
    figure, (axes,) = seen[0]
    box, whole = axes.get_legend().get_window_extent(), figure.bbox
    assert box.y0 >= whole.y0
    assert box.y1 <= whole.y1
    assert box.x1 <= whole.x1 + 1
    assert figure.get_suptitle() == "a run"


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


def tasks_of(**values: dict[str, float | None]) -> dict[str, Any]:
    """Fields of a record: of ``t2i`` the loss."""
    return {
        f"{name}_tasks": {
            task: {"score": value, "count": 3, "parts": {}} | ({"loss": value} if task == "t2i" else {})
            for task, value in own.items()
        }
        for name, own in values.items()
    }


ROUNDS: list[dict[str, Any]] = [
    {"event": "setup", **tasks_of(heldout={"vqa": 9.0}), "round": 9},
    {"event": "client", "round": 1, "client": "site-1", **tasks_of(heldout={"vqa": 0.9}), "train_losses": {"vqa": 9.0}},
    {"event": "round", "round": 1, **tasks_of(heldout={"vqa": 0.1}, test={"vqa": 0.2}), "train_losses": {"vqa": 3.0}},
    {"event": "round", "round": 2, **tasks_of(heldout={}, test={"vqa": 0.3}), "train_losses": {"vqa": None}},
    {"event": "round", "round": 3, **tasks_of(heldout={"vqa": 0.5}), "train_losses": {"vqa": 1.0}},
    {"event": "final", "round": 3, **tasks_of(heldout={"vqa": 0.6}, test={"vqa": None})},
    {"event": "summary", "best": {"round": 3, "heldout": 0.6}},
]
SERIES = {
    # Round r scores the adapter after r - 1 rounds, "final" the one after all of them.
    "heldout/vqa": [(0, 0.1), (2, 0.5), (3, 0.6)],
    "test/vqa": [(0, 0.2), (1, 0.3)],
    "train_loss/vqa": [(1, 3.0), (3, 1.0)],
}
DRAWN: list[dict[str, Any]] = [
    {
        "event": "round", "round": 1, "train_losses": {"vqa": 2.0, "t2i": 4.0},
        **tasks_of(heldout={"vqa": 0.1, "t2i": 5.0}, test={"vqa": 0.2, "t2i": 5.5, "geneval": 0.25}),
    },
    {"event": "final", "round": 1, **tasks_of(heldout={"vqa": 0.2, "t2i": 3.5}, test={"geneval": 0.75})},
]  # fmt: skip


def lines_of(*axes: Any) -> dict[str, list[tuple[float, float]]]:
    """What is drawn, by the words in the legend."""
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for own in axes for line in own.get_lines()}


def test_scores_belong_to_the_adapter_they_were_measured_on() -> None:
    assert rounds_table(ROUNDS) == SERIES


def test_the_figure_of_rounds_shows_the_series(drawn: list[Any], tmp_path: Path) -> None:
    assert save_rounds_figure(ROUNDS, tmp_path / "rounds.png") == SERIES
    left, right = drawn[0].figure.axes
    assert lines_of(left, right) == {
        "clients' held-out data": [(r, pytest.approx(100 * v)) for r, v in SERIES["heldout/vqa"]],
        "common test set": [(r, pytest.approx(100 * v)) for r, v in SERIES["test/vqa"]],
        "training loss (right axis)": SERIES["train_loss/vqa"],
    }
    assert [text.get_text() for text in left.get_legend().get_texts()] == list(lines_of(left, right))
    assert (left.get_ylabel(), left.get_xlabel()) == ("accuracy (%)", "round")
    assert "nats" in right.get_ylabel()
    assert right.get_ylim()[0] == 0
    assert (tmp_path / "rounds.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("scorers", "name"),
    [
        (["abcd", "abcd"], "clients' held-out data"),
        (["ab", "ab"], "held-out data of 2 of 4 clients"),
        (["abcd", "ab"], "held-out data of 2 to 4 of 4 clients"),
        (["", "abc"], "held-out data of 3 of 4 clients"),
    ],
)
def test_the_curve_says_on_whose_data_it_was_measured(
    scorers: list[str], name: str, drawn: list[Any], tmp_path: Path
) -> None:
    records = [
        r | {"roster": 4, "heldout_clients": dict.fromkeys(own, 0.1)} for r, own in zip(DRAWN, scorers, strict=True)
    ]
    save_rounds_figure(records, tmp_path / "rounds.png")
    assert sum(name in lines_of(own) for own in drawn[0].figure.axes) == 2, "questions and images"


@pytest.mark.parametrize("answers", [True, False])
def test_what_was_drawn_has_a_panel_of_its_own(answers: bool, drawn: list[Any], tmp_path: Path) -> None:
    records = DRAWN if answers else [r | {"train_losses": {"t2i": 4.0}} if "train_losses" in r else r for r in DRAWN]
    save_rounds_figure(records, tmp_path / "rounds.png")
    by_label = {own.get_ylabel(): own for own in drawn[0].figure.axes}
    assert len(by_label) == (4 if answers else 2)
    images, geneval = by_label["cross-entropy of image tokens (nats)"], by_label["GenEval (%)"]
    assert lines_of(images, geneval) == {
        "clients' held-out data": [(0, 5.0), (1, 3.5)],
        "common test set": [(0, 5.5)],
        "training loss": [(1, 4.0)],
        "GenEval (right axis)": [(0, 25.0), (1, 75.0)],
    }
    assert geneval.get_ylim() == (0, 100)


@pytest.mark.parametrize("records", [[], [{"event": "round", "round": 1, "train_losses": {"vqa": None}}]])
def test_a_run_without_scores_has_empty_series_and_still_a_figure(records: list[Any], tmp_path: Path) -> None:
    assert save_rounds_figure(records, tmp_path / "rounds.png") == {}
    assert (tmp_path / "rounds.png").read_bytes().startswith(PNG)
