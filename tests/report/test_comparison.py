"""``fedumm compare``: what differs, results side by side, and paired tests that are right."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from fedumm.cli.main import run as run_command
from fedumm.errors import FedummError
from fedumm.report.comparison import comparison, differences, groups, paired_test, paired_tests, warnings
from fedumm.report.overview import Overview, overview
from support.recorded_run import HOSTILE, record_run

SCORES = {"fedavg": (0.50, 0.52, 0.48, 0.55), "flora": (0.53, 0.54, 0.52, 0.56)}


def recorded(folder: Path, score: float, **options: Any) -> Path:
    """A run whose best adapter has ``score``, with these options in place of those that it had."""
    path = record_run(folder)
    lines = dict(line.split(": ", 1) for line in (path / "config.yaml").read_text().splitlines()[1:])
    lines |= {name: json.dumps(value) for name, value in options.items()}
    text = "# Repeat this run: x\n" + "".join(f"{name}: {value}\n" for name, value in lines.items())
    (path / "config.yaml").write_text(text)
    records = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    records[-1]["best"] |= {"test": score, "test_tasks": {"vqa": {"score": score, "count": 8, "parts": {}}}}
    (path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def study(folder: Path) -> list[Overview]:
    return [
        overview(recorded(folder / f"{name}-{seed}", score, aggregator=name, seed=seed, gpu=str(seed)))
        for name, scores in SCORES.items()
        for seed, score in enumerate(scores)
    ]


class TestDifferences:
    def test_of_settings_only(self, tmp_path: Path) -> None:
        """Where a run was carried out is none of them, a number is one however it is written."""
        runs = study(tmp_path)[3:5]
        assert differences(runs) == {"aggregator": ["fedavg", "flora"], "seed": ["3", "0"]}
        other = overview(recorded(tmp_path / "a", 0.5, lr=1e-3, aggregator="fedavg", seed=3, max_q_len=64))
        assert differences([runs[0], other]) == {}, "an option that is not there has its default"
        longer = overview(recorded(tmp_path / "b", 0.5, aggregator="fedavg", seed=3, max_q_len=65))
        assert differences([runs[0], longer]) == {"max_q_len": ["64", "65"]}

    def test_what_a_kind_of_run_does_not_have_is_none(self, tmp_path: Path) -> None:
        central = record_run(tmp_path / "c")
        (central / "config.yaml").write_text("# Repeat this run: x\nmodel_backend: blip_vqa\nnum_epochs: 3\nseed: 1\n")
        found = differences([*study(tmp_path)[3:5], overview(central)])
        assert found["aggregator"] == ["fedavg", "flora", "-"]
        assert found["kind"] == ["federated", "federated", "central"]
        assert "num_epochs" not in found


class TestTests:
    def test_runs_are_grouped_by_all_but_the_seed(self, tmp_path: Path) -> None:
        found = groups(study(tmp_path), "test")
        assert [g.numbers for g in found] == [(0, 1, 2, 3), (4, 5, 6, 7)]
        assert found[0].scores == {"0": 0.50, "1": 0.52, "2": 0.48, "3": 0.55}
        assert found[0].mean == pytest.approx(0.5125)
        assert found[0].deviation == pytest.approx((0.002675 / 3) ** 0.5)

    def test_by_formula_and_by_all_signs(self) -> None:
        """t by its definition, with its table's quantile for 3 degrees of freedom; Wilcoxon by counting all signs."""
        values = [0.03, 0.02, 0.04, -0.01]
        found = paired_test(values)
        mean = sum(values) / 4
        deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / 3)
        assert (found.pairs, found.difference) == (4, pytest.approx(mean))
        assert found.effect == pytest.approx(mean / deviation)
        assert found.low == pytest.approx(mean - 3.182446 * deviation / 2, rel=1e-5)
        assert found.high == pytest.approx(mean + 3.182446 * deviation / 2, rel=1e-5)
        t = mean / (deviation / 2)
        x = t / math.sqrt(3)
        assert found.t_test == pytest.approx(1 - 2 / math.pi * (math.atan(x) + x / (1 + x * x)), rel=1e-6)
        assert found.wilcoxon == pytest.approx(by_all_signs(values))

    def test_equal_differences_have_no_p(self) -> None:
        for value in (0.0, 0.1):
            found = paired_test([value] * 3)
            assert (found.difference, found.t_test, found.wilcoxon, found.effect) == (
                pytest.approx(value),
                None,
                None,
                None,
            )

    def test_only_seeds_of_both_are_paired_and_few_are_told(self, tmp_path: Path) -> None:
        runs = study(tmp_path)
        del runs[5]
        found = groups(runs, "test")
        (test,) = paired_tests(found)
        assert (test.pairs, test.difference) == (3, pytest.approx((0.03 + 0.04 + 0.01) / 3))
        assert any("3 seeds" in line and "0.25" in line for line in warnings(found, [test]))
        alone = groups(runs[3:5], "test")
        assert paired_tests(alone) == []
        assert any("No tests" in line for line in warnings(alone, []))

    def test_runs_that_are_not_over_are_told_and_count_nowhere(self, tmp_path: Path) -> None:
        runs = study(tmp_path)
        states = {0: "stopped", 5: "running"}
        runs = [replace(run, state=states.get(number, "finished")) for number, run in enumerate(runs)]  # type: ignore[arg-type]
        found = comparison(runs, "test")
        assert [g.numbers for g in found["groups"]] == [(1, 2, 3), (4, 6, 7)]
        assert [test.pairs for test in found["tests"]] == [2]
        assert "Not finished, and so neither in the means nor in the tests: #1, #6." in found["warnings"]
        assert not any("finished" in line for line in comparison(runs[1:5], "test")["warnings"])

    def test_two_runs_that_are_one_by_their_options_must_agree(self, tmp_path: Path) -> None:
        runs = [overview(recorded(tmp_path / name, score)) for name, score in (("a", 0.5), ("b", 0.6))]
        with pytest.raises(FedummError, match="same options"):
            groups(runs, "test")


def by_all_signs(values: Sequence[float]) -> float:
    """Two-sided p of the signed-rank test: how many of all signs make a rank sum as far from its mean."""
    ranks = [sorted(map(abs, values)).index(abs(value)) + 1 for value in values]
    middle = sum(ranks) / 2
    own = abs(sum(r for r, v in zip(ranks, values, strict=True) if v > 0) - middle)
    sums = [sum(itertools.compress(ranks, signs)) for signs in itertools.product((0, 1), repeat=len(ranks))]
    return sum(abs(total - middle) >= own - 1e-9 for total in sums) / len(sums)


class TestCommand:
    @pytest.mark.parametrize("width", [80, 120])
    def test_fits_the_screen(
        self, width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("COLUMNS", str(width))
        paths = [str(run.path) for run in study(tmp_path)]
        assert run_command("compare", paths, "fedumm compare") == 0
        shown = capsys.readouterr().out
        assert max(map(cell_len, shown.splitlines())) <= width
        for text in ("50.00 %", "--aggregator: fedavg (#1 #2 #3 #4); flora (#5 #6 #7 #8)", "51.25 %", "+2.50", "0.125"):
            assert text in shown

    def test_json_has_all_of_it(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        paths = [str(run.path) for run in study(tmp_path)]
        assert run_command("compare", [*paths, "--json"], "fedumm compare") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["differ"]["aggregator"] == ["fedavg"] * 4 + ["flora"] * 4
        assert [run["best"]["test"] for run in found["runs"]] == [*SCORES["fedavg"], *SCORES["flora"]]
        assert found["tests"][0]["pairs"] == 4
        assert found["warnings"]

    def test_texts_of_others_act_on_no_screen(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        paths = [
            str(recorded(tmp_path / name, 0.5, prompt=HOSTILE.replace("\x00", "") * n)) for n, name in enumerate("ab")
        ]
        assert run_command("compare", paths, "fedumm compare") == 0
        assert "\x1b" not in capsys.readouterr().out

    def test_one_run_is_no_comparison(self, tmp_path: Path) -> None:
        path = str(record_run(tmp_path / "a"))
        for argv in ([path], [path, path], [path, str(tmp_path / "none")]):
            assert run_command("compare", argv, "fedumm compare") == 2
