"""``fedumm runs``: which runs there are, how far they are, and a table that fits."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from rich.cells import cell_len

from fedumm.cli.main import run as run_command
from fedumm.report.overview import find_runs, overview
from fedumm.report.tables import Column, table_lines

CONFIG = "# Repeat this run: fedumm federate --name x\nmodel_backend: blip_vqa\ndataset: easy_vqa\n"


def scored(value: float, **more: Any) -> dict[str, Any]:
    """The scores of one version."""
    entry = {"vqa": {"score": value, "count": 10, "parts": {}}}
    return {"heldout": value, "test": value, "heldout_tasks": entry, "test_tasks": entry, **more}


def round_of(number: int, value: float, best: int) -> dict[str, Any]:
    more = {"bytes_down": 10, "bytes_up": 20, "elapsed": 5.0 * number, "best_round": best}
    return {"event": "round", "round": number, **scored(value), **more}


ROUNDS = [round_of(1, 0.25, 0), round_of(2, 0.75, 1), round_of(3, 0.5, 1)]
SUMMARY = {
    "event": "summary",
    "untrained": scored(0.25, round=0),
    "best": scored(0.75, round=1),
    "last": scored(0.625, round=3),
    "seconds": 16.5,
}


def make(folder: Path, *records: dict[str, Any], config: str = CONFIG + "num_clients: 4\nnum_rounds: 3\n") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config)
    if records:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


class TestOverview:
    def test_of_a_finished_run_has_its_summary(self, tmp_path: Path) -> None:
        run = overview(make(tmp_path / "a", *ROUNDS, SUMMARY))
        assert (run.kind, run.state, run.round, run.rounds, run.clients) == ("federated", "finished", 3, 3, 4)
        assert [run.score(name, "test") for name in ("untrained", "best", "last")] == [0.25, 0.75, 0.625]
        assert (run.best_round, run.seconds, run.bytes_down, run.bytes_up) == (1, 16.5, 30, 60)
        assert run.command == "fedumm federate --name x"
        assert run.size == sum(p.stat().st_size for p in (tmp_path / "a").iterdir())

    def test_of_a_stopped_run_has_the_scores_so_far(self, tmp_path: Path) -> None:
        """A round's record scores the version that it starts from: after two rounds, versions 0 and 1 have scores."""
        run = overview(make(tmp_path / "a", *ROUNDS[:2]))
        assert (run.state, run.round, run.seconds) == ("stopped", 2, 10.0)
        assert [run.score(name, "heldout") for name in ("untrained", "best", "last")] == [0.25, 0.75, 0.75]
        assert run.best_round == 1

    def test_one_that_another_process_holds_is_running(self, tmp_path: Path) -> None:
        folder = make(tmp_path / "a", *ROUNDS[:1])
        with FileLock(folder / ".lock"):
            assert overview(folder).state == "running"
        assert overview(folder).state == "stopped"

    def test_asking_makes_no_file_and_leaves_the_lock_free(self, tmp_path: Path) -> None:
        folder = make(tmp_path / "a")
        assert overview(folder).state == "empty"
        assert not (folder / ".lock").exists()
        (folder / ".lock").symlink_to(folder / "elsewhere")
        assert overview(folder).state == "empty"
        assert not (folder / "elsewhere").exists()

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("metrics.jsonl", "no JSON\n"),
            ("metrics.jsonl", '{"event": "round", "round": []}\n'),
            ("metrics.jsonl", '{"event": "summary", "best": 3}\n'),
            ("config.yaml", "# Repeat this run: x\n- a list\n"),
            ("config.yaml", "# Repeat this run: x\nnum_clients: [\n"),
        ],
    )
    def test_what_cannot_be_read_is_damaged_and_not_an_error(self, name: str, text: str, tmp_path: Path) -> None:
        folder = make(tmp_path / "a", *ROUNDS, SUMMARY)
        (folder / name).write_text(text)
        run = overview(folder)
        assert run.state == "damaged"
        assert run.problem

    def test_of_a_central_run_has_epochs(self, tmp_path: Path) -> None:
        config = CONFIG + "num_epochs: 2\n"
        epochs = [{"event": "epoch", "epoch": n, **scored(0.25 * (n + 1)), "elapsed": 3.0 + n} for n in range(3)]
        run = overview(make(tmp_path / "a", {"event": "setup"}, *epochs[:2], config=config))
        assert (run.kind, run.state, run.round, run.rounds, run.clients) == ("central", "stopped", 1, 2, None)
        assert [run.score(name, "test") for name in ("untrained", "best", "last")] == [0.25, 0.5, 0.5]
        end = {"event": "summary", "epochs": 2, "untrained": scored(0.25), "trained": scored(0.75)}
        run = overview(make(tmp_path / "b", *epochs, end, config=config))
        assert (run.state, run.round, run.best_round, run.seconds) == ("finished", 2, 2, 5.0)
        assert [run.score(name, "test") for name in ("untrained", "best", "last")] == [0.25, 0.75, 0.75]

    def test_of_clients_that_train_alone_has_the_mean_over_them(self, tmp_path: Path) -> None:
        setup = {"event": "setup", "local_only": True}
        done = [{"event": "local", "client": f"site-{n}", "test": 0.5} for n in (1, 2)]
        config = CONFIG + "num_clients: 2\nnum_rounds: 3\n"
        run = overview(make(tmp_path / "a", setup, done[0], config=config))
        assert (run.kind, run.state, run.round, run.rounds, run.clients) == ("local", "stopped", 1, 2, 2)
        over = {"test": {"mean": 0.5, "spread": 0.0, "worst": 0.5}, "heldout": None}
        end = {"event": "summary", "untrained": {"test": 0.25}, "local_only": over, "seconds": 9.0}
        run = overview(make(tmp_path / "b", setup, *done, end, config=config))
        assert (run.state, run.score("untrained", "test"), run.score("best", "test")) == ("finished", 0.25, 0.5)
        assert run.score("best", "heldout") is None


class TestFinding:
    def test_runs_and_those_of_studies_and_nothing_else(self, tmp_path: Path) -> None:
        make(tmp_path / "b", *ROUNDS)
        make(tmp_path / "study" / "k2")
        make(tmp_path / "study" / "deeper" / "too_deep")
        make(tmp_path / "foreign", config="of: another program\n")
        make(tmp_path / "central", {"event": "setup"}, config=CONFIG + "num_epochs: 2\n")
        make(tmp_path / "central_without_records", config=CONFIG + "num_epochs: 2\n")
        make(tmp_path / "b" / "inner")
        (tmp_path / "link").symlink_to(tmp_path / "b", target_is_directory=True)
        found = [str(path.relative_to(tmp_path)) for path in find_runs(tmp_path)]
        assert found == ["b", "central", "study/k2"]


class TestCommand:
    def test_json_has_the_newest_first(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for age, name in enumerate(("new", "old")):
            folder = make(tmp_path / name, *ROUNDS, SUMMARY)
            os.utime(folder / "metrics.jsonl", (1_700_000_000 - age, 1_700_000_000 - age))
        assert run_command("runs", [str(tmp_path), "--json"], "fedumm runs") == 0
        found = json.loads(capsys.readouterr().out)
        assert [Path(run["path"]).name for run in found] == ["new", "old"]
        assert found[0]["best"] == {"heldout": 0.75, "test": 0.75}
        assert found[0]["changed"] == "2023-11-14T22:13:20+00:00"

    def test_the_table_fits_and_hostile_names_act_on_no_screen(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        make(tmp_path / ("long" * 30), *ROUNDS, SUMMARY)
        make(tmp_path / "\x1b[31m[red]", config=CONFIG + "num_clients: 4\nnum_rounds: 3\naggregator: '[bold]\\x1b'\n")
        for width in (80, 120):
            monkeypatch.setenv("COLUMNS", str(width))
            assert run_command("runs", [str(tmp_path)], "fedumm runs") == 0
            shown = capsys.readouterr().out
            assert max(map(cell_len, shown.splitlines())) <= width
            assert "75.00 %" in shown
            assert "\x1b" not in shown
            assert r"\x1b[31m[red]" in shown

    def test_no_folder_is_an_error_and_no_run_is_none(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_command("runs", [str(tmp_path / "none")], "fedumm runs") == 2
        assert run_command("runs", [str(tmp_path)], "fedumm runs") == 0
        assert "No runs" in capsys.readouterr().out


def test_columns_of_the_highest_rank_go_first() -> None:
    columns = [Column("name", ["a" * 20]), Column("b", ["b" * 20], 2), Column("c", ["c" * 20], 1, "right")]
    assert table_lines(columns, 64)[2] == f"{'a' * 20}  {'b' * 20}  {'c' * 20}"
    assert table_lines(columns, 63)[2] == f"{'a' * 20}  {'c' * 20}"
    assert table_lines(columns, 15)[2] == "a" * 12 + "..."
    assert table_lines([Column("name", ["x", "東京"]), Column("n", ["1", "22"], 0, "right")], 80)[2:] == [
        "x      1", "東京  22",
    ]  # fmt: skip
