"""Losses by step: thinned without a bias, bounded, read back, and never trusted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedumm.step_losses import StepLosses, points_of_a_part, read_losses


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 9), st.integers(0, 2**32))
def test_thinning_keeps_the_mean_over_samples_and_the_last_step(
    tmp_path_factory: pytest.TempPathFactory, steps: int, most: int, seed: int
) -> None:
    file = tmp_path_factory.mktemp("run") / "steps" / "site-1.jsonl"
    given_losses = [(n, ((seed >> n % 31) % 7) / 7, 1 + (seed + n) % 3) for n in range(1, steps + 1)]
    losses = StepLosses(file, most)
    for _, loss, samples in given_losses:
        losses.add(loss, samples)
    points = list(losses._points)
    losses.end(1)
    whole = sum(samples for _, _, samples in given_losses)
    assert sum(samples for _, _, samples in points) == whole
    mean = sum(loss * samples for _, loss, samples in given_losses) / whole
    assert sum(loss * samples for _, loss, samples in points) / whole == pytest.approx(mean)
    (line,) = lines(file)
    assert len(line["steps"]) <= most  # type: ignore[arg-type]
    assert line["steps"][-1] == steps  # type: ignore[index]
    if steps <= most:
        assert line["losses"] == [pytest.approx(loss, abs=1e-6) for _, loss, _ in given_losses]


def test_steps_are_counted_through_all_rounds_and_a_round_done_again_replaces_the_first(tmp_path: Path) -> None:
    losses = StepLosses(tmp_path / "steps" / "site-2.jsonl")
    for part, values in ((1, [0.5, 0.25]), (4, [9.0]), (4, [0.125, float("nan"), 0.0625])):
        for value in values:
            losses.add(value, 8)
        losses.end(part)
    losses.end(5)  # took no step
    assert read_losses(tmp_path) == {"site-2": {1: [(1, 0.5), (2, 0.25)], 4: [(3, 0.125), (5, 0.0625)]}}


def test_a_run_of_any_size_has_bounded_files() -> None:
    assert points_of_a_part(4 * 3) == 200
    assert points_of_a_part(1000 * 100) == 2
    assert points_of_a_part(10**9) == 1


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", '{"part": "1"}', '{"part": 1, "steps": [1], "losses": []}', '{"part": 1, "steps": ["x"], '
     '"losses": [1.0]}', '{"part": 1, "steps": [-1], "losses": [1.0]}', "[" * 100_000, '{"part": 1, "steps": 3}'],
)  # fmt: skip
def test_what_somebody_else_wrote_is_passed_over(text: str, tmp_path: Path) -> None:
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "site-1.jsonl").write_text(f'{text}\n{{"part": 2, "steps": [2], "losses": [0.5]}}\n')
    assert read_losses(tmp_path) == {"site-1": {2: [(2, 0.5)]}}


def test_a_link_is_not_followed_and_a_full_disk_ends_no_run(tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text('{"part": 1, "steps": [1], "losses": [0.5]}\n')
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "site-1.jsonl").symlink_to(other)
    assert read_losses(tmp_path) == {}
    (tmp_path / "file").write_text("")
    losses = StepLosses(tmp_path / "file" / "steps" / "site-1.jsonl")
    losses.add(0.5, 1)
    losses.end(1)
